// run
// twin: pthreads/migrate

// As in the tour of Go: two goroutines add up half a list each and send their sums over one channel. It needs no sleep
// and no lock, only two goroutines and a hand-over, so a crash here and not in one-goroutine points to the second
// thread.

package main

import "fmt"

func sum(values []int, c chan<- int) {
	total := 0
	for _, v := range values {
		total += v
	}
	c <- total
}

func main() {
	values := []int{7, 2, 8, -9, 4, 0}
	c := make(chan int)
	go sum(values[:3], c)
	go sum(values[3:], c)
	x, y := <-c, <-c
	fmt.Println(x*y, x+y)
}
