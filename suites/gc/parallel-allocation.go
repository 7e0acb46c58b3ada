// run
// env: GOMAXPROCS=4

// Eight goroutines build maps and slices at once while the collector runs at every tenth of growth, so that allocation,
// marking and write barriers meet. A wrong entry or a crash means that an object was freed or handed out twice while it
// was being filled (mcache, bulkBarrierPreWrite).

package main

import (
	"fmt"
	"runtime/debug"
	"sync"
)

func build(seed int) int {
	m := map[int][]int{}
	for i := 0; i < 300; i++ {
		m[i] = append([]int{seed}, i, i*i)
	}
	wrong := 0
	for i := 0; i < 300; i++ {
		if v := m[i]; len(v) != 3 || v[0] != seed || v[1] != i || v[2] != i*i {
			wrong++
		}
	}
	return wrong
}

func main() {
	debug.SetGCPercent(10)
	var all sync.WaitGroup
	wrong := make([]int, 8)
	for g := range wrong {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for i := 0; i < 8; i++ {
				wrong[g] += build(g*100 + i)
			}
		}(g)
	}
	all.Wait()
	fmt.Println("wrong:", wrong)
}
