// run
// needs: split-stack

// Two hundred thousand calls deep, some forty megabytes of stack that can only grow in pieces. A crash means that the
// pieces are not joined rightly (__morestack in libgcc), or that the program was built without split stacks; the places
// that have none leave it out.

package main

import "fmt"

func down(n int) int {
	var room [40]int
	room[n%40] = n
	if n == 0 {
		return 0
	}
	return down(n-1) + room[n%40] - n + 1
}

func main() {
	done := make(chan int)
	go func() { done <- down(200000) }()
	fmt.Println(<-done)
}
