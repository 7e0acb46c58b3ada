// run
// expect: exit 2, stderr ~ "goroutine 1 \\[semacquire"

// Main locks a mutex twice. The deadlock must be found, and the report must show main in semacquire; a hang means that
// a goroutine that waits in a semaphore (sema.go) is not counted as waiting.

package main

import "sync"

func main() {
	var mu sync.Mutex
	mu.Lock()
	mu.Lock()
}
