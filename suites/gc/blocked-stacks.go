// run

// A hundred goroutines wait with the only pointer to their data on their stacks, while garbage is collected and the
// heap is filled again. Wrong data mean that the stack of a goroutine that does not run was not scanned (scanstack, and
// the saved context in which the registers of a switched goroutine lie).

package main

import (
	"fmt"
	"runtime"
)

type data struct {
	values [16]int
}

func hold(number int, start, end chan int) {
	d := &data{}
	for i := range d.values {
		d.values[i] = number + i
	}
	start <- 1
	<-start
	sum := 0
	for _, v := range d.values {
		sum += v
	}
	end <- sum - 16*number
}

func main() {
	const n = 100
	starts := make([]chan int, n)
	end := make(chan int)
	for i := range starts {
		starts[i] = make(chan int)
		go hold(i, starts[i], end)
		<-starts[i]
	}
	var garbage []*data
	for i := 0; i < 5; i++ {
		runtime.GC()
		garbage = nil
		for j := 0; j < 2000; j++ {
			garbage = append(garbage, &data{})
		}
	}
	right := 0
	for _, start := range starts {
		start <- 1
		if <-end == 120 {
			right++
		}
	}
	fmt.Println("right:", right, len(garbage))
}
