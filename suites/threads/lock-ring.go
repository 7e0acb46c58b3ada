// run
// twin: pthreads/hand-over-context

// Twenty goroutines, each locked to a thread of its own, pass a number around a ring of channels five times and then
// all end locked: twenty threads are alive together and leave nearly together. A wrong number means that a value was
// lost between threads, a hang that a locked thread was not woken for its goroutine (stoplockedm, startlockedm).

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
	const n, laps = 20, 5
	var ring [n + 1]chan int
	for i := range ring {
		ring[i] = make(chan int)
	}
	var locked, ended sync.WaitGroup
	locked.Add(n)
	ended.Add(n)
	for i := 0; i < n; i++ {
		go func(in <-chan int, out chan<- int) {
			defer ended.Done()
			runtime.LockOSThread()
			locked.Done()
			for v := range in {
				out <- v + 1
			}
			close(out)
		}(ring[i], ring[i+1])
	}
	locked.Wait()
	v := 0
	for lap := 1; lap <= laps; lap++ {
		ring[0] <- v
		if v = <-ring[n]; v != lap*n {
			fmt.Printf("lap %d: got %d instead of %d\n", lap, v, lap*n)
			os.Exit(1)
		}
	}
	close(ring[0])
	if v, open := <-ring[n]; open {
		fmt.Println("a number too many:", v)
		os.Exit(1)
	}
	ended.Wait()
	gone()
	fmt.Println("passed on", v, "times")
}
