// run
// env: GOMAXPROCS=4
// twin: pthreads/cond-wait-context

// Six locked goroutines take turns by a sync.Mutex and a sync.Cond, 20 times each; a turn wakes all six threads, and
// five go back to sleep. A turn taken twice or out of order means that two threads were inside the mutex (sema.go, the
// futexes or semaphores below it), a hang that a broadcast missed a thread that was just going to sleep.

package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

// gone waits until the other goroutines, and the threads they leave, have ended.
func gone() {
	for i := 0; runtime.NumGoroutine() > 1; i++ {
		if i == 2000 {
			fmt.Println("goroutines that have not ended:", runtime.NumGoroutine()-1)
			os.Exit(1)
		}
		time.Sleep(2 * time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
}

func main() {
	const n, turns = 6, 20
	var mu sync.Mutex
	cond := sync.NewCond(&mu)
	turn, inside, wrong := 0, 0, 0
	var ended sync.WaitGroup
	ended.Add(n)
	for i := 0; i < n; i++ {
		go func(me int) {
			defer ended.Done()
			runtime.LockOSThread()
			for t := 0; t < turns; t++ {
				mu.Lock()
				for turn%n != me {
					cond.Wait()
				}
				inside++
				runtime.Gosched() // the others run into the mutex
				if inside != 1 || turn != t*n+me {
					wrong++
				}
				inside--
				turn++
				cond.Broadcast()
				mu.Unlock()
			}
		}(i)
	}
	ended.Wait()
	gone()
	if turn != n*turns || wrong != 0 {
		fmt.Println("turns:", turn, "of them wrong:", wrong)
		os.Exit(1)
	}
	fmt.Println("turns:", turn)
}
