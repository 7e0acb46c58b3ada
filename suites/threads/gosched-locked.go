// run
// env: GOMAXPROCS=2
// twin: pthreads/hand-over-context

// Six locked goroutines and two free ones call Gosched 100 times each; a locked one can only go on when its own thread
// is woken, so most calls hand a P from thread to thread. A goroutine on another thread than before means that locking
// does not hold or that pthread_self() is wrong, a hang that the handing over lost a wakeup (schedule, startlockedm).

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

//extern pthread_self
func pthreadSelf() uintptr

func storm(calls int, locked bool, ended chan<- int) {
	if locked {
		runtime.LockOSThread()
	}
	thread := pthreadSelf()
	moves := 0
	for i := 0; i < calls; i++ {
		runtime.Gosched()
		if locked && pthreadSelf() != thread {
			moves++
		}
	}
	ended <- moves
}

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
	const goroutines, free, calls = 8, 2, 100
	ended := make(chan int)
	for i := 0; i < goroutines; i++ {
		go storm(calls, i >= free, ended)
	}
	for i := 0; i < goroutines; i++ {
		if moves := <-ended; moves != 0 {
			fmt.Println("a locked goroutine was on another thread", moves, "times")
			os.Exit(1)
		}
	}
	gone()
	fmt.Println(goroutines*calls, "calls")
}
