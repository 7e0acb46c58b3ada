// run
// twin: pthreads/run-queue

// Two hundred goroutines are five hundred calls deep at the same time, and each gives its turn away at the bottom. A
// wrong sum means that stacks overlap, or that one was given out again while it was in use (gfget, stackalloc); a crash
// that there is no memory for so many.

package main

import "fmt"

func down(n, number int, bottom, up chan int) int {
	if n == 0 {
		bottom <- 1
		<-up
		return number
	}
	return down(n-1, number, bottom, up) + 1
}

func main() {
	const goroutines, depth = 200, 500
	bottom, up, end := make(chan int), make(chan int), make(chan int)
	for i := 0; i < goroutines; i++ {
		go func(i int) { end <- down(depth, i, bottom, up) }(i)
	}
	for i := 0; i < goroutines; i++ {
		<-bottom
	}
	close(up)
	sum := 0
	for i := 0; i < goroutines; i++ {
		sum += <-end
	}
	fmt.Println(sum)
}
