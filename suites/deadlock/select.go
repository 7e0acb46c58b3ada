// run
// expect: exit 2, stderr ~ "goroutine 1 \\[select"

// Main waits in a select of two channels that nobody uses. The deadlock must be found and the state must be `select`; a
// hang means that a goroutine parked by selectgo is not counted as waiting.

package main

func main() {
	a, b := make(chan int), make(chan string)
	select {
	case <-a:
	case b <- "x":
	}
}
