// run
// timeout: 60s
// twin: pthreads/run-queue

// In the spirit of 2013: ten rounds of ten goroutines that lock a thread, sleep 20 ms and end, so that ten threads die
// in a round while the next are made. At the end few threads are left, or about ten more in a libgo that does not end
// them. A failed assertion in pt-create.c or sem-timedwait.c, as there was then, points to libpthread.

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
	const rounds, each = 10, 10
	var counts [rounds]int
	var mu sync.Mutex
	for round := range counts {
		var wg sync.WaitGroup
		wg.Add(each)
		for i := 0; i < each; i++ {
			go func() {
				defer wg.Done()
				runtime.LockOSThread()
				time.Sleep(20 * time.Millisecond)
				mu.Lock()
				counts[round]++
				mu.Unlock()
			}()
		}
		wg.Wait()
		if counts[round] != each {
			fmt.Printf("round %d: %d goroutines of %d\n", round, counts[round], each)
			os.Exit(1)
		}
	}
	gone()
	fmt.Println(counts)
}
