// run
// timeout: 3s

package main

import (
	"sync"
	"time"
)

func consume(c chan int, all *sync.WaitGroup) {
	defer all.Done()
	<-c
}

func main() {
	go func() {
		for {
			time.Sleep(100 * time.Millisecond)
		}
	}()
	var all sync.WaitGroup
	c := make(chan int)
	for i := 0; i < 20; i++ {
		all.Add(1)
		go consume(c, &all)
	}
	all.Wait()
}
