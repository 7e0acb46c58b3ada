// run

// A finalizer makes its object reachable again; the object must be whole, and its finalizer must not run a second time.
// Rubbish in the object means that it was swept before its finalizer ran, a second run that the special record stayed.

package main

import (
	"fmt"
	"runtime"
	"time"
)

type object struct {
	words []string
}

var kept []*object

func main() {
	const n = 50
	runs := make(chan *object, 2*n)
	made := make(chan bool)
	go func() {
		for i := 0; i < n; i++ {
			o := &object{[]string{"still", "here"}}
			runtime.SetFinalizer(o, func(o *object) { runs <- o })
		}
		close(made)
	}()
	<-made
	for i := 0; i < 200 && len(runs) < n*8/10; i++ {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	for len(runs) > 0 {
		kept = append(kept, <-runs)
	}
	first := len(kept)
	kept = kept[:first/2]
	for i := 0; i < 5; i++ {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	seen := map[*object]bool{}
	for _, o := range kept {
		if seen[o] || len(o.words) != 2 || o.words[0]+o.words[1] != "stillhere" {
			fmt.Println("wrong:", o.words)
		}
		seen[o] = true
	}
	for len(runs) > 0 { // those that were late, never one of the first
		if o := <-runs; seen[o] {
			fmt.Println("finalized again")
		}
	}
	fmt.Println("enough:", first >= n*8/10)
}
