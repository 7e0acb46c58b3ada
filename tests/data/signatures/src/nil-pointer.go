// run

package main

type node struct {
	next  *node
	value int
}

func last(n *node) int {
	for i := 0; i < 3; i++ {
		n = n.next
	}
	return n.value
}

func main() {
	println(last(&node{}))
}
