// run

package main

type stack struct {
	items []int
}

func (s *stack) pop() int {
	if len(s.items) == 0 {
		panic("pop of an empty stack")
	}
	return s.items[0]
}

type popper interface {
	pop() int
}

func main() {
	var p popper = &stack{}
	p.pop()
}
