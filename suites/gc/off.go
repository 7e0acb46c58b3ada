// run
// env: GOGC=off

// With GOGC=off, 30 MB of garbage must cause no collection, and runtime.GC must still make one. A collection that
// nobody asked for means that the switch is not read (readGOGC) or that something else starts collections; a program
// that fails only with the collector on is compared with its like here.

package main

import (
	"fmt"
	"runtime"
)

var sink []byte

func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

func main() {
	for i := 0; i < 3000; i++ {
		sink = make([]byte, 10000)
	}
	fmt.Println("by itself:", collections())
	runtime.GC()
	fmt.Println("when asked:", collections())
}
