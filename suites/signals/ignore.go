// run

// A signal that is ignored must not end the program, and os/signal must say that it is ignored. An end by SIGTERM means
// that the runtime's handler stays where SIG_IGN belongs (ignoreSignals, setsig).

package main

import (
	"fmt"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signal.Ignore(syscall.SIGTERM)
	fmt.Println("ignored:", signal.Ignored(syscall.SIGTERM))
	for i := 0; i < 5; i++ {
		syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Println("alive")
}
