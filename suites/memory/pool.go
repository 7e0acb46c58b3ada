// run
// env: GOMAXPROCS=4

// Four goroutines take buffers from a sync.Pool and give them back, while collections empty it. A buffer that two hold
// at once means that the pool's lists for each processor are not kept apart (pin, poolCleanup), which only threads that
// are found wrongly make visible.

package main

import (
	"fmt"
	"runtime"
	"sync"
)

func main() {
	pool := sync.Pool{New: func() interface{} { return new([64]int) }}
	var all sync.WaitGroup
	wrong := make([]int, 4)
	for g := range wrong {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for i := 0; i < 500; i++ {
				buffer := pool.Get().(*[64]int)
				for at := range buffer {
					buffer[at] = g*1000 + i
				}
				runtime.Gosched()
				for at := range buffer {
					if buffer[at] != g*1000+i {
						wrong[g]++
					}
				}
				pool.Put(buffer)
				if i%100 == 0 {
					runtime.GC()
				}
			}
		}(g)
	}
	all.Wait()
	fmt.Println(wrong)
}
