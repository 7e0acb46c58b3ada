// run

package main

import "fmt"

type node struct {
	id   int
	next *node
}

func walk(n *node) {
	panic(fmt.Sprintf("cycle at %v", n))
}

func main() {
	n := &node{id: 12}
	n.next = n
	walk(n)
}
