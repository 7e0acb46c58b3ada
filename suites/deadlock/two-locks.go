// run
// expect: exit 2, stderr ~ "all goroutines are asleep - deadlock!"

// Two goroutines take two mutexes in opposite order, and each waits for the other's. With main waiting for both, the
// deadlock must be found; a hang means that sleepers in the mutex's semaphore are counted as running.

package main

import "sync"

func main() {
	var a, b sync.Mutex
	first, second := make(chan bool), make(chan bool)
	done := make(chan bool)
	go func() {
		a.Lock()
		close(first)
		<-second
		b.Lock()
		done <- true
	}()
	go func() {
		b.Lock()
		close(second)
		<-first
		a.Lock()
		done <- true
	}()
	<-done
}
