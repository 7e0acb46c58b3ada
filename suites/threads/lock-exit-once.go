// run
// twin: pthreads/from-context

// One goroutine locks its thread and ends without unlocking it: the one thing that makes libgo end a thread (goexit0,
// mexit, then the return of runtime_mstart). Main keeps the first thread, which never ends, to itself. Afterwards
// another goroutine runs and the heap is collected. A crash or a hang points to mexit, or to the end of a detached
// thread in libpthread and what it leaves behind.

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

func init() {
	runtime.LockOSThread()
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
	said := make(chan string)
	go func() {
		runtime.LockOSThread()
		said <- "locked"
	}()
	if word := <-said; word != "locked" {
		fmt.Println("the locked goroutine said", word)
		os.Exit(1)
	}
	gone()
	go func() { said <- "alive" }()
	if word := <-said; word != "alive" {
		fmt.Println("the next goroutine said", word)
		os.Exit(1)
	}
	runtime.GC()
	fmt.Println("ok")
}
