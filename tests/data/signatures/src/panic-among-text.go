// run

package main

import (
	"os"
	"runtime"
	"time"
)

func main() {
	runtime.GOMAXPROCS(4)
	for g := 0; g < 4; g++ {
		go func() {
			for {
				os.Stderr.WriteString("the weather is fine\n")
			}
		}()
	}
	time.Sleep(2 * time.Millisecond)
	panic("it rains")
}
