// run
// env: GODEBUG=gcstoptheworld=1 GOMAXPROCS=4

// The collector stops the world for the whole of each collection (GODEBUG=gcstoptheworld=1) while goroutines switch
// over channels. A hang means that stopTheWorld waits for a goroutine that never comes to a safe point, or that the
// world is not started again; a program that passes here and fails with the concurrent collector points to write
// barriers.

package main

import (
	"fmt"
	"runtime"
	"sync"
)

func main() {
	var all sync.WaitGroup
	sums := make([]int, 4)
	for g := range sums {
		all.Add(1)
		c := make(chan []int)
		go func() {
			for i := 0; i < 300; i++ {
				c <- make([]int, 200)
			}
			close(c)
		}()
		go func(g int) {
			defer all.Done()
			for v := range c {
				sums[g] += len(v)
			}
		}(g)
	}
	for i := 0; i < 15; i++ {
		runtime.GC()
	}
	all.Wait()
	fmt.Println(sums)
}
