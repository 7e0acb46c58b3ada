// run

// To close a closed or a nil channel and to send on a closed one are panics with a text each, which the program
// recovers from, and the channel stays as it was. Anything else means that chan.go lets a broken channel through or
// that a panic in the runtime cannot be recovered from.

package main

import "fmt"

func try(what string, f func()) {
	defer func() {
		fmt.Printf("%s: %v\n", what, recover())
	}()
	f()
}

func main() {
	var none chan int
	closed := make(chan int, 1)
	closed <- 5
	close(closed)
	try("close closed", func() { close(closed) })
	try("close nil", func() { close(none) })
	try("send on closed", func() { closed <- 1 })
	waiting := make(chan int)
	started := make(chan bool)
	ended := make(chan bool)
	go func() {
		close(started)
		try("closed while it sends", func() { waiting <- 1 })
		close(ended)
	}()
	<-started
	close(waiting)
	<-ended
	fmt.Println(<-closed, <-closed)
}
