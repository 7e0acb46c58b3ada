// run

// Twenty clients send requests that carry the channel for the answer to one server, 25 each, and check that the answer
// is theirs. An answer for somebody else means that channels or the values in them are mixed up, a hang that a client
// that had to be woken was not.

package main

import (
	"fmt"
	"sync"
)

type request struct {
	value  int
	answer chan int
}

func main() {
	requests := make(chan request)
	go func() {
		for r := range requests {
			r.answer <- r.value * r.value
		}
	}()
	var all sync.WaitGroup
	var mu sync.Mutex
	right := 0
	for client := 0; client < 20; client++ {
		all.Add(1)
		go func(client int) {
			defer all.Done()
			answer := make(chan int)
			for i := 0; i < 25; i++ {
				value := client*100 + i
				requests <- request{value, answer}
				if <-answer == value*value {
					mu.Lock()
					right++
					mu.Unlock()
				}
			}
		}(client)
	}
	all.Wait()
	fmt.Println("right answers:", right)
}
