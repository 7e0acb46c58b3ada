// run

// Two channels are always ready, and a select that is asked 4000 times must take each of them at least 1000 times. Less
// means that select always begins at the same case: its random order (fastrandn in selectgo) is broken, and programs
// starve that work elsewhere.

package main

import "fmt"

func main() {
	a, b := make(chan int, 1), make(chan int, 1)
	var counts [2]int
	for i := 0; i < 4000; i++ {
		select {
		case a <- 0:
		default: // it is full already
		}
		select {
		case b <- 1:
		default:
		}
		select {
		case v := <-a:
			counts[v]++
		case v := <-b:
			counts[v]++
		}
	}
	if counts[0] < 1000 || counts[1] < 1000 {
		fmt.Println("unfair:", counts)
		return
	}
	fmt.Println("fair")
}
