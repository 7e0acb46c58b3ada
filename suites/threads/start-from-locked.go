// run
// twin: pthreads/create-chain-context

// A chain of twelve goroutines, each locked to its thread and started by the one before. A locked thread may be in a
// state that nobody should inherit, so libgo has a template thread make the new ones (newmHandoff in proc.go). A hang
// means that the template thread did not start or was not woken. The second chain starts while the first one's threads
// end.

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

func link(depth int, up chan<- int) {
	runtime.LockOSThread()
	if depth == 0 {
		up <- 1
		return
	}
	down := make(chan int)
	go link(depth-1, down)
	runtime.Gosched()
	up <- 1 + <-down
}

// gone waits until the other goroutines, and the threads they leave, have ended.
func gone() {
	for i := 0; runtime.NumGoroutine() > 1; i++ {
		if i == 2000 {
			fmt.Println("goroutines that have not ended:", runtime.NumGoroutine()-1)
			os.Exit(1)
		}
		time.Sleep(2 * time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
}

func main() {
	const depth, chains = 12, 2
	for i := 0; i < chains; i++ {
		top := make(chan int)
		go link(depth-1, top)
		if n := <-top; n != depth {
			fmt.Printf("chain %d has %d links instead of %d\n", i, n, depth)
			os.Exit(1)
		}
	}
	gone()
	fmt.Println(chains, "chains of", depth)
}
