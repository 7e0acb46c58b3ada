// run
// twin: pthreads/sem-wait-context

// A context with a deadline ends the wait of five goroutines, and its cancelled child ends before it. A hang means that
// the timer behind the deadline does not close the channel that they wait on, a wrong reason that it came by another
// way.

package main

import (
	"context"
	"fmt"
	"time"
)

func main() {
	parent, cancel := context.WithTimeout(context.Background(), 80*time.Millisecond)
	defer cancel()
	child, stop := context.WithCancel(parent)
	ends := make(chan error)
	for i := 0; i < 5; i++ {
		go func() {
			<-parent.Done()
			ends <- parent.Err()
		}()
	}
	stop()
	<-child.Done()
	fmt.Println("child:", child.Err())
	for i := 0; i < 5; i++ {
		fmt.Println("parent:", <-ends)
	}
}
