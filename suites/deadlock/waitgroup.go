// run
// expect: exit 2, stderr ~ "all goroutines are asleep - deadlock!"

// Main waits for a goroutine that ends without saying so, on a thread of its own if the libgo makes one for each. A
// hang means that the thread that ended, or the goroutine, still counts as alive.

package main

import "sync"

func main() {
	var all sync.WaitGroup
	all.Add(2)
	go func() {
		all.Done()
	}()
	all.Wait()
}
