// run
// expect: signal TERM

// A signal is asked for, comes, is given back with Reset, and comes again: the second one must end the program as if it
// had never been asked for. Status 1 means that the default action was not restored (dieFromSignal, setsig to SIG_DFL).

package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
	<-c
	signal.Reset(syscall.SIGTERM)
	syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
	time.Sleep(5 * time.Second)
	os.Exit(1)
}
