// run
// twin: pthreads/from-context

// One go statement, waited for: the smallest program that failed in 2013, always with `pt-create.c:167:
// __pthread_create_internal: Assertion ... failed`. The same title today means that the thread is still found by its
// stack; none at all that thread-local storage ended it, as predicted.

package main

import "fmt"

func main() {
	done := make(chan string)
	go func() {
		done <- "from a goroutine"
	}()
	fmt.Println(<-done)
}
