// run

// Each of five hundred frames holds the only pointer to a piece of a list, and at the bottom garbage is collected. A
// wrong sum or a crash means that the collector did not scan the whole of a deep stack, or missed one of its pieces.

package main

import (
	"fmt"
	"runtime"
)

type piece struct {
	values [20]int
}

func down(n int) int {
	p := &piece{}
	p.values[n%20] = n
	if n == 0 {
		for i := 0; i < 3; i++ {
			runtime.GC()
			for j := 0; j < 1000; j++ {
				_ = new(piece)
			}
		}
		return 0
	}
	sum := down(n - 1)
	return sum + p.values[n%20]
}

func main() {
	done := make(chan int)
	go func() { done <- down(500) }()
	fmt.Println(<-done, down(500))
}
