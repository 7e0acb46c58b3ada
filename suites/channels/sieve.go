// run

// The prime sieve: each prime adds a goroutine that filters the stream of numbers, so that a number passes through up
// to sixty goroutines and every hand-over is a switch. A wrong prime means that a value was lost or doubled on the way,
// a crash that switching between goroutines' stacks breaks.

package main

import "fmt"

func generate(c chan<- int) {
	for i := 2; ; i++ {
		c <- i
	}
}

func filter(in <-chan int, out chan<- int, prime int) {
	for {
		if i := <-in; i%prime != 0 {
			out <- i
		}
	}
}

func main() {
	c := make(chan int)
	go generate(c)
	sum, prime := 0, 0
	for i := 0; i < 60; i++ {
		prime = <-c
		sum += prime
		next := make(chan int)
		go filter(c, next, prime)
		c = next
	}
	fmt.Println("the 60th prime:", prime, "sum:", sum)
}
