// run
// twin: pthreads/sigaltstack-context

// A nil pointer is followed two hundred times by four goroutines, each locked to a thread, and each time the panic that
// comes of SIGSEGV is recovered from. It is the idea of GCC's nil and recover3, which died with `Aborted` on the Hurd
// in 2013: an end by a signal means that the handler does not find its goroutine, or cannot panic from a signal's
// frame.

package main

import (
	"fmt"
	"runtime"
)

type node struct {
	next  *node
	value int
}

func follow(n *node) (text string) {
	defer func() {
		text = fmt.Sprint(recover())
	}()
	n.next.value++
	return
}

func main() {
	const text = "runtime error: invalid memory address or nil pointer dereference"
	counts := make(chan int)
	for g := 0; g < 4; g++ {
		go func() {
			runtime.LockOSThread()
			right := 0
			for i := 0; i < 50; i++ {
				if follow(&node{}) == text {
					right++
				}
			}
			counts <- right
		}()
	}
	fmt.Println(<-counts + <-counts + <-counts + <-counts)
}
