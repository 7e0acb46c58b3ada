// run

// Thirty rounds of a hundred goroutines that end before the next are made: the memory of their stacks must be used
// again, so that the last round takes little more than the third. Growth means that ended goroutines are not put on the
// free list or not found there (gfput, gfget), as with the variant no-g-reuse, and ends in out of memory.

package main

import (
	"fmt"
	"runtime"
)

func system() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys
}

func main() {
	end := make(chan int)
	var third uint64
	for round := 1; round <= 30; round++ {
		for i := 0; i < 100; i++ {
			go func() { end <- 1 }()
		}
		for i := 0; i < 100; i++ {
			<-end
		}
		if round == 3 {
			third = system()
		}
	}
	fmt.Println("used again:", system() < third+third/2)
}
