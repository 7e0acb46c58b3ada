// run

// Two thousand calls deep with half a kilobyte in each frame, which is a megabyte: within the two that a goroutine has
// where stacks are not split. A crash means that goroutines got less stack than that, a wrong sum that a frame was
// overwritten.

package main

import "fmt"

func down(n int) int {
	var room [100]int
	for i := range room {
		room[i] = n + i
	}
	if n == 0 {
		return room[1]
	}
	return down(n-1) + room[n%100] - n%100
}

func main() {
	done := make(chan int)
	go func() { done <- down(2000) }()
	fmt.Println(<-done, down(2000))
}
