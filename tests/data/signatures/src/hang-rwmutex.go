// run
// timeout: 3s

package main

import (
	"sync"
	"time"
)

func main() {
	var mu sync.RWMutex
	mu.Lock()
	for i := 0; i < 3; i++ {
		go mu.RLock()
	}
	for {
		time.Sleep(time.Second)
	}
}
