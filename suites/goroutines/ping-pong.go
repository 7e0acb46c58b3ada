// run
// twin: pthreads/hand-over-context

// Two goroutines hand a number back and forth over unbuffered channels, 1000 times, so that each send has to switch to
// the other goroutine. A wrong number means that a value was lost or doubled between sender and receiver (chan.go), a
// hang that a parked goroutine or its thread was not woken (gopark, goready; libpthread's semaphores on the Hurd).

package main

import (
	"fmt"
	"os"
)

func main() {
	const rounds = 1000
	ping, pong := make(chan int), make(chan int)
	go func() {
		for n := range ping {
			pong <- n + 1
		}
		close(pong)
	}()
	n := 0
	for i := 0; i < rounds; i++ {
		ping <- n
		got := <-pong
		if got != n+1 {
			fmt.Printf("round %d: sent %d, got %d\n", i, n, got)
			os.Exit(1)
		}
		n = got
	}
	close(ping)
	if extra, open := <-pong; open {
		fmt.Println("a number too many:", extra)
		os.Exit(1)
	}
	fmt.Println("rounds:", n)
}
