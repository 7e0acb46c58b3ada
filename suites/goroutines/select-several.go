// run

// One goroutine selects over four channels that four others fill, then over channels that stay empty: with a default,
// with a timer, and with a send and a receive of which one can go. Values out of order or missing mean that
// select took a case twice or left a waiter queued (select.go), a hang that a wakeup was lost or a timer did not fire.

package main

import (
	"fmt"
	"os"
	"time"
)

func check(good bool, what ...interface{}) {
	if !good {
		fmt.Println(what...)
		os.Exit(1)
	}
}

func main() {
	const values = 50
	var source [4]chan int
	for i := range source {
		source[i] = make(chan int, i)
		go func(out chan<- int) {
			for v := 0; v < values; v++ {
				out <- v
			}
		}(source[i])
	}
	var next [4]int
	for n := 0; n < len(source)*values; n++ {
		from, v := 0, 0
		select {
		case v = <-source[0]:
			from = 0
		case v = <-source[1]:
			from = 1
		case v = <-source[2]:
			from = 2
		case v = <-source[3]:
			from = 3
		}
		check(v == next[from], "channel", from, "gave", v, "instead of", next[from])
		next[from]++
	}

	empty, full := make(chan int), make(chan int, 1)
	select {
	case v := <-empty:
		check(false, "received", v, "from an empty channel")
	default:
	}
	select {
	case v := <-empty:
		check(false, "received", v, "instead of the timer")
	case <-time.After(10 * time.Millisecond):
	}
	select {
	case full <- 7:
	case v := <-empty:
		check(false, "received", v, "instead of sending")
	}
	check(<-full == 7, "the value sent by select was lost")
	fmt.Println(next)
}
