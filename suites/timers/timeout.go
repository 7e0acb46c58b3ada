// run
// twin: pthreads/sem-wait-context

// A select waits for a channel that stays silent and for time.After, fifty times in turn with one that speaks in time.
// A hang means that the timer's channel does not wake a select, a wrong count that a timer fired that was not due.

package main

import (
	"fmt"
	"time"
)

func main() {
	timeouts, values := 0, 0
	for i := 0; i < 50; i++ {
		c := make(chan int, 1)
		limit := 5 * time.Millisecond
		if i%2 == 0 {
			limit = time.Minute
			go func() { c <- 1 }()
		}
		select {
		case <-c:
			values++
		case <-time.After(limit):
			timeouts++
		}
	}
	fmt.Println("timeouts:", timeouts, "values:", values)
}
