// run

// 200 MB of garbage pass through a program that keeps half a megabyte, and the heap must stay below 60 MB. More means
// that garbage is not found or not swept, or that a collection is not started in time, and leads to out of memory on a
// small guest.

package main

import (
	"fmt"
	"runtime"
)

var kept [50][]byte

func main() {
	for i := 0; i < 20000; i++ {
		kept[i%len(kept)] = make([]byte, 10000)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Println("small:", m.HeapSys < 60<<20, "collected:", m.NumGC > 3)
}
