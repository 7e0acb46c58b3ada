// run

// Memory that was full of ones and given up must be zero when it comes again, in many sizes. A one means that a span is
// taken for fresh that is not (needzero in mheap and mcache), and programs see other data than they wrote.

package main

import (
	"fmt"
	"runtime"
)

var sink []byte

func main() {
	dirty := 0
	for round := 0; round < 4; round++ {
		for _, size := range []int{8, 24, 100, 1000, 5000, 40000, 200000} {
			for i := 0; i < 10+100000/size/10; i++ {
				block := make([]byte, size)
				for at := range block {
					dirty += int(block[at])
					block[at] = 1
				}
				sink = block
			}
		}
		runtime.GC()
	}
	fmt.Println("dirty:", dirty)
}
