// run
// twin: pthreads/run-queue

// Forty rounds of ten goroutines, so that later ones get the structures and stacks of those that ended (gfput, gfget).
// Each fills an array on its stack, lets others run and looks again: a changed byte means that two live goroutines
// shared a stack, a throw "bad status" or a crash that a structure was handed out before its owner had left it.

package main

import (
	"fmt"
	"os"
	"runtime"
)

// check returns how many bytes of its stack were changed by somebody else.
//
//go:noinline
func check(mark byte, depth int) int {
	var local [512]byte
	for i := range local {
		local[i] = mark
	}
	wrong := 0
	if depth > 0 {
		wrong = check(mark+1, depth-1)
	}
	runtime.Gosched()
	for _, b := range local {
		if b != mark {
			wrong++
		}
	}
	return wrong
}

func main() {
	const rounds, each = 40, 10
	ended := make(chan int)
	for round := 0; round < rounds; round++ {
		for i := 0; i < each; i++ {
			go func(mark byte) { ended <- check(mark, 8) }(byte(round + 17*i))
		}
		for i := 0; i < each; i++ {
			if wrong := <-ended; wrong != 0 {
				fmt.Printf("round %d: %d bytes of a stack were overwritten\n", round, wrong)
				os.Exit(1)
			}
		}
	}
	fmt.Println(rounds*each, "goroutines kept their stacks")
}
