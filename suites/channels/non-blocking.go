// run

// Sends and receives with a default case must not wait, must find a partner that waits, and must fail where there is
// none. It is the idea of GCC's chan/nonblock, which failed on the Hurd in 2013: a success without a partner or a
// failure with one means that the fast path of chansend or chanrecv looked at a channel without its lock.

package main

import (
	"fmt"
	"runtime"
)

func try(c chan int, send bool) bool {
	if send {
		select {
		case c <- 7:
			return true
		default:
			return false
		}
	}
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// until tries again while the partner is still on its way.
func until(c chan int, send bool) bool {
	for i := 0; i < 100000; i++ {
		if try(c, send) {
			return true
		}
		runtime.Gosched()
	}
	return false
}

func main() {
	c := make(chan int)
	fmt.Println("nobody there:", try(c, true), try(c, false))
	done := make(chan int)
	go func() { done <- <-c }()
	fmt.Println("a receiver waits:", until(c, true), <-done)
	go func() { c <- 8; done <- 1 }()
	fmt.Println("a sender waits:", until(c, false), <-done)
	buffered := make(chan int, 1)
	fmt.Println("with room:", try(buffered, true), try(buffered, true), try(buffered, false), try(buffered, false))
	var none chan int
	fmt.Println("nil:", try(none, true), try(none, false))
}
