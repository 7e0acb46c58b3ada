// run
// expect: signal HUP

// SIGHUP comes to a program that did not ask for it, from a goroutine while main sleeps, and must end it by that
// signal. An exit status means that the runtime made something else of it, no end that it is lost in a thread that
// blocks it.

package main

import (
	"syscall"
	"time"
)

func main() {
	go func() {
		time.Sleep(20 * time.Millisecond)
		syscall.Kill(syscall.Getpid(), syscall.SIGHUP)
	}()
	time.Sleep(20 * time.Second)
}
