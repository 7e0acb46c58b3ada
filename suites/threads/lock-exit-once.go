// run

// One goroutine locks its thread and ends without unlocking it: the one thing that makes libgo end a thread (goexit0,
// mexit, then the return of runtime_mstart). Afterwards another goroutine is started and the heap is collected. A crash
// or a hang points to mexit or to the end of a detached thread in libpthread, a later one to what they left behind.

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

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
	for i := 0; runtime.NumGoroutine() > 1; i++ {
		if i == 1000 {
			fmt.Println("the locked goroutine has not ended")
			os.Exit(1)
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // its thread leaves later than itself
	go func() { said <- "alive" }()
	if word := <-said; word != "alive" {
		fmt.Println("the next goroutine said", word)
		os.Exit(1)
	}
	runtime.GC()
	fmt.Println("ok")
}
