// run

// Main is locked to the first thread from init on and leaves through Goexit. That thread must not end, for the process
// could go with it: mexit parks it and hands its P on. The rest of the program then runs on other threads, five of
// which may end. No "ok" means that the process ended with its first thread, a hang that the P was not handed on.

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

func rest(gone <-chan bool) {
	<-gone
	time.Sleep(20 * time.Millisecond) // main ends later than its deferred function
	result := make(chan int)
	sum := 0
	for i := 1; i <= 5; i++ {
		go func(i int) {
			runtime.LockOSThread()
			result <- i
		}(i)
	}
	for i := 1; i <= 5; i++ {
		sum += <-result
	}
	runtime.GC()
	if sum != 15 {
		fmt.Println("the sum is", sum, "instead of 15")
		os.Exit(1)
	}
	fmt.Println("ok")
	os.Exit(0)
}

func main() {
	gone := make(chan bool)
	go rest(gone)
	defer close(gone)
	runtime.Goexit()
}
