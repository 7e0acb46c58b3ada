// run

// A tree of some ten thousand nodes stays reachable while garbage is made and collected ten times, and its sums must
// not change. A wrong sum or a crash means that something alive was freed: a root was missed, or the marking stopped
// early.

package main

import (
	"fmt"
	"os"
	"runtime"
)

type node struct {
	left, right *node
	value       int
}

func grow(depth, value int) *node {
	if depth == 0 {
		return nil
	}
	return &node{grow(depth-1, 2*value), grow(depth-1, 2*value+1), value}
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.value + n.left.sum() + n.right.sum()
}

func main() {
	tree := grow(13, 1)
	want := tree.sum()
	for i := 0; i < 10; i++ {
		grow(12, i)
		runtime.GC()
		if got := tree.sum(); got != want {
			fmt.Printf("after collection %d: %d, expected %d\n", i, got, want)
			os.Exit(1)
		}
	}
	fmt.Println(want)
}
