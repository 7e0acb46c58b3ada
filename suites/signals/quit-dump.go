// run
// expect: exit 2, stderr ~ "(?s)SIGQUIT: quit.*goroutine \\d+ \\[chan receive.*main\\.wait"

// SIGQUIT must make the runtime print all goroutines and exit with 2: it is how a hang explains itself. A bare end by
// the signal means that the handler is not installed, a missing stack that the goroutines' stacks cannot be walked.

package main

import (
	"runtime"
	"syscall"
)

func wait(c chan int) {
	<-c
}

func main() {
	c := make(chan int)
	for i := 0; i < 3; i++ {
		go wait(c)
	}
	for i := 0; i < 100; i++ {
		runtime.Gosched()
	}
	syscall.Kill(syscall.Getpid(), syscall.SIGQUIT)
	<-c
}
