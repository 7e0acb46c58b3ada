// run

package main

import "sync"

func consume(c chan int, all *sync.WaitGroup) {
	defer all.Done()
	for range c {
	}
}

func main() {
	var all sync.WaitGroup
	c := make(chan int)
	for i := 0; i < 5; i++ {
		all.Add(1)
		go consume(c, &all)
	}
	c <- 1
	all.Wait()
}
