// run

// Twenty goroutines end with runtime.Goexit two calls deep. Their deferred functions have to run, last one first, and
// see no panic; the code after the call must not run. A wrong order or a missing letter means that Goexit unwinds a
// goroutine's stack wrongly (panic.go of libgo), a crash that its last step, goexit0, runs on the wrong stack.

package main

import (
	"fmt"
	"os"
	"runtime"
)

func inner(trace *string) {
	defer func() { *trace += "c" }()
	runtime.Goexit()
	*trace += "x"
}

func outer(trace *string, ended chan<- string) {
	defer func() { ended <- *trace }()
	defer func() {
		if v := recover(); v != nil {
			*trace += fmt.Sprint("recovered ", v)
		}
		*trace += "a"
	}()
	defer func() { *trace += "b" }()
	inner(trace)
	*trace += "y"
}

func main() {
	const n = 20
	ended := make(chan string)
	for i := 0; i < n; i++ {
		go outer(new(string), ended)
	}
	for i := 0; i < n; i++ {
		if trace := <-ended; trace != "cba" {
			fmt.Printf("deferred functions ran as %q, not as \"cba\"\n", trace)
			os.Exit(1)
		}
	}
	fmt.Println(n, "goroutines left through Goexit")
}
