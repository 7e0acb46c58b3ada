// run

// Ten thousand deferred calls in one function must run in the opposite order, with a panic half-way that another one
// recovers from. A wrong order or number means that the chain of deferred calls (_defer, and the panic's own walk over
// it) is broken.

package main

import "fmt"

func run(n int) (order []int) {
	for i := 0; i < n; i++ {
		i := i
		defer func() {
			order = append(order, i)
			switch i {
			case n / 2:
				panic("half-way")
			case n / 4:
				if recover() == nil {
					fmt.Println("there was no panic")
				}
			}
		}()
	}
	return nil
}

func main() {
	order := run(10000)
	for at, number := range order {
		if number != len(order)-1-at {
			fmt.Println("wrong order at", at)
			return
		}
	}
	fmt.Println("in order:", len(order))
}
