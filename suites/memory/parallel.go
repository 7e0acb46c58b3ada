// run
// env: GOMAXPROCS=4

// Eight goroutines take blocks at once, mark them as their own, and look at them again after others have taken theirs.
// A foreign mark means that one block was given to two goroutines: a thread's cache of memory (mcache) was shared or
// not handed over when the thread changed.

package main

import (
	"fmt"
	"sync"
)

func use(me byte) (wrong int) {
	var blocks [][]byte
	for i := 0; i < 500; i++ {
		block := make([]byte, 16+i%200)
		for at := range block {
			block[at] = me
		}
		blocks = append(blocks, block)
	}
	for _, block := range blocks {
		for at := range block {
			if block[at] != me {
				wrong++
			}
		}
	}
	return
}

func main() {
	var all sync.WaitGroup
	wrong := make([]int, 8)
	for g := range wrong {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for i := 0; i < 4; i++ {
				wrong[g] += use(byte(g + 1))
			}
		}(g)
	}
	all.Wait()
	fmt.Println(wrong)
}
