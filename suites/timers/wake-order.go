// run

// Five goroutines sleep for different times, told in mixed order, and must wake in the order of their times, 60 ms
// apart. Another order means that the heap of timers is wrong (time.go) or that a wait ends early; a hang that the
// thread that waits for the next timer is not told of an earlier one.

package main

import (
	"fmt"
	"time"
)

func main() {
	woken := make(chan int)
	for _, step := range []int{3, 1, 5, 2, 4} {
		go func(step int) {
			time.Sleep(time.Duration(step) * 60 * time.Millisecond)
			woken <- step
		}(step)
	}
	for i := 0; i < 5; i++ {
		fmt.Println(<-woken)
	}
}
