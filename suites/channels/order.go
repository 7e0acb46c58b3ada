// run

// One goroutine sends the numbers from 0 to 1999 over a channel without a buffer, and main must get them in that order.
// A number out of turn means that a sender and a receiver were paired wrongly (chansend, chanrecv in chan.go), a hang
// that a wake-up was lost between them.

package main

import (
	"fmt"
	"os"
)

func main() {
	const n = 2000
	c := make(chan int)
	go func() {
		for i := 0; i < n; i++ {
			c <- i
		}
		close(c)
	}()
	want := 0
	for got := range c {
		if got != want {
			fmt.Printf("got %d, expected %d\n", got, want)
			os.Exit(1)
		}
		want++
	}
	fmt.Println("in order:", want)
}
