// run

// Of a hundred objects with finalizers that nothing points to any more, at least ninety must be finalized; the
// collector scans stacks conservatively, so a few may stay. None means that the finalizer goroutine does not run or is
// not woken (runfinq, createfing in mfinal.go), some that sweeping loses them.

package main

import (
	"fmt"
	"runtime"
	"time"
)

type object struct {
	number int
	body   [50]int
}

func main() {
	const n = 100
	done := make(chan int, n)
	made := make(chan bool)
	go func() { // its stack goes with it
		for i := 0; i < n; i++ {
			runtime.SetFinalizer(&object{number: i}, func(o *object) { done <- o.number })
		}
		close(made)
	}()
	<-made
	for i := 0; i < 200 && len(done) < n*9/10; i++ {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if len(done) < n*9/10 {
		fmt.Println("finalized:", len(done))
		return
	}
	seen := map[int]bool{}
	for len(done) > 0 {
		number := <-done
		if seen[number] {
			fmt.Println("twice:", number)
		}
		seen[number] = true
	}
	fmt.Println("most are finalized, none twice")
}
