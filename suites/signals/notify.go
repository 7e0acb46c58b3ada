// run
// twin: pthreads/sigaltstack-context

// The program sends itself SIGUSR1 and SIGHUP in turn, ten times, and must get each from os/signal before the next is
// sent. A hang means that the handler does not wake the goroutine that hands signals out (sigsend, signal_recv), a
// wrong name that signals' numbers are taken for another system's.

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGHUP)
	for i := 0; i < 10; i++ {
		sent := []syscall.Signal{syscall.SIGUSR1, syscall.SIGHUP}[i%2]
		if err := syscall.Kill(syscall.Getpid(), sent); err != nil {
			fmt.Println(err)
		}
		if got := <-c; got != sent {
			fmt.Println("got", got, "expected", sent)
		}
	}
	fmt.Println("all came")
}
