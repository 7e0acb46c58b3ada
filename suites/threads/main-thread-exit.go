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

func rest(left <-chan bool) {
	<-left
	gone()
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
	gone()
	runtime.GC()
	if sum != 15 {
		fmt.Println("the sum is", sum, "instead of 15")
		os.Exit(1)
	}
	fmt.Println("ok")
	os.Exit(0)
}

func main() {
	left := make(chan bool)
	go rest(left)
	defer close(left)
	runtime.Goexit()
}
