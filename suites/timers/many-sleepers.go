// run
// twin: pthreads/sem-wait-context

// Two hundred goroutines sleep at once, ten times each for one to ten milliseconds. A hang means that a sleeper was
// lost among many timers, a crash that the heaps of several threads break when goroutines move between them.

package main

import (
	"fmt"
	"sync"
	"time"
)

func main() {
	var all sync.WaitGroup
	var mu sync.Mutex
	naps := 0
	for g := 0; g < 200; g++ {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for i := 0; i < 10; i++ {
				time.Sleep(time.Duration(1+(g+i)%10) * time.Millisecond)
			}
			mu.Lock()
			naps += 10
			mu.Unlock()
		}(g)
	}
	all.Wait()
	fmt.Println("naps:", naps)
}
