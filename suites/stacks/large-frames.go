// run

// Ten goroutines in a row, and then ten at once, have a frame of 256 kilobytes each. A crash means that a frame larger
// than the stack's guard reaches beyond the stack unseen, wrong contents that two stacks lie in the same place.

package main

import "fmt"

func fill(number byte) int {
	var room [256 << 10]byte
	for i := range room {
		room[i] = number
	}
	full <- true
	<-goOn
	sum := 0
	for i := range room {
		sum += int(room[i])
	}
	return sum >> 18
}

var full, goOn = make(chan bool), make(chan bool)

func main() {
	end := make(chan int)
	for i := 1; i <= 10; i++ {
		go func(i int) { end <- fill(byte(i)) }(i)
		<-full
		goOn <- true
		fmt.Print(<-end, " ")
	}
	for i := 1; i <= 10; i++ {
		go func(i int) { end <- fill(byte(i)) }(i)
		<-full
	}
	sum := 0
	for i := 1; i <= 10; i++ {
		goOn <- true
	}
	for i := 1; i <= 10; i++ {
		sum += <-end
	}
	fmt.Println(sum)
}
