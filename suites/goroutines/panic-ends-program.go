// run
// expect: exit 2, stderr ~ "panic: thrown in a goroutine"

// One goroutine panics and nobody recovers, while main and four others are blocked: the whole program has to end with
// status 2 and the panic's text on stderr. Status 0 or a hang means that the panic died with its goroutine, 134 or 139
// that the way out (fatalpanic, the traceback of the other goroutines) crashed.

package main

import (
	"fmt"
	"os"
	"sync"
)

func main() {
	var ready sync.WaitGroup
	never := make(chan int)
	for i := 0; i < 4; i++ {
		ready.Add(1)
		go func() {
			ready.Done()
			<-never
		}()
	}
	ready.Wait()
	fmt.Println("about to panic")
	go func() {
		panic("thrown in a goroutine")
	}()
	<-never
	fmt.Println("still alive after the panic")
	os.Exit(1)
}
