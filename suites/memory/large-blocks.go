// run

// Blocks of 1 to 8 megabytes are taken, written in every page, and given up, six rounds of 36 megabytes, and the
// memory of the first round must be used again. Three times as much or more means that large spans are not found or not
// joined when they are freed (mheap, pageAlloc); out of memory on a guest with little of it.

package main

import (
	"fmt"
	"runtime"
)

var kept [][]byte

func system() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys
}

func main() {
	var first uint64
	for round := 0; round < 6; round++ {
		kept = nil
		runtime.GC()
		for size := 1; size <= 8; size++ {
			block := make([]byte, size<<20)
			for i := 0; i < len(block); i += 4096 {
				if block[i] != 0 {
					fmt.Println("not zero")
				}
				block[i] = 1
			}
			kept = append(kept, block)
		}
		if round == 0 {
			first = system()
		}
	}
	fmt.Println("used again:", system() < first*3, len(kept))
}
