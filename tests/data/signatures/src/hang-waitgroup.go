// run
// timeout: 3s

package main

import (
	"sync"
	"time"
)

func main() {
	go func() {
		for {
			time.Sleep(50 * time.Millisecond)
		}
	}()
	var all sync.WaitGroup
	all.Add(1)
	all.Wait()
}
