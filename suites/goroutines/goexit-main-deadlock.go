// run
// expect: exit 2, stderr ~ "no goroutines .main called runtime.Goexit. - deadlock!"

// Main leaves through Goexit and one goroutine goes on. When that ends too, no goroutine is left and the runtime has to
// say so and exit with 2. A hang means that checkdead counted a thread that is idle or gone as running (nmidle, nmfreed
// in proc.go), a missing line that the program ended together with main.

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	gone := make(chan bool)
	go func() {
		<-gone
		for i := 0; i < 10; i++ {
			runtime.Gosched()
		}
		fmt.Println("the goroutine outlived main")
	}()
	defer close(gone)
	runtime.Goexit()
	fmt.Println("main went on after Goexit")
	os.Exit(1)
}
