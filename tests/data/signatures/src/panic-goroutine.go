// run

package main

import "sync"

func work(n int, ready *sync.WaitGroup, never chan int) {
	ready.Done()
	if n == 7 {
		panic("worker lost its input")
	}
	<-never
}

func main() {
	var ready sync.WaitGroup
	never := make(chan int)
	for n := 0; n < 8; n++ {
		ready.Add(1)
		go work(n, &ready, never)
	}
	<-never
}
