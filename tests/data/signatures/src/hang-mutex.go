// run
// timeout: 3s

package main

import (
	"sync"
	"time"
)

var mu sync.Mutex

func enter() {
	mu.Lock()
	defer mu.Unlock()
}

func main() {
	mu.Lock()
	for i := 0; i < 9; i++ {
		go enter()
	}
	for {
		time.Sleep(time.Second)
	}
}
