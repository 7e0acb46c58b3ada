// run
// args: 50
// timeout: 60s

// As many goroutines as its argument says lock their threads and end, one after the other, each only when the last one
// is gone: threads are made and destroyed all the time, and few are alive. What fails here, and not in lock-exit-once,
// is used up or goes stale: stacks and thread structures of libpthread, ports of the kernel, Ms and stacks of libgo.

package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

func main() {
	n := 50
	if len(os.Args) > 1 {
		var err error
		if n, err = strconv.Atoi(os.Args[1]); err != nil {
			fmt.Println("not a number of goroutines:", os.Args[1])
			os.Exit(1)
		}
	}
	result := make(chan int)
	for i := 0; i < n; i++ {
		go func() {
			runtime.LockOSThread()
			runtime.Gosched()
			result <- i + 1
		}()
		if got := <-result; got != i+1 {
			fmt.Println("goroutine", i, "gave", got)
			os.Exit(1)
		}
		for try := 0; runtime.NumGoroutine() > 1; try++ {
			if try == 1000 {
				fmt.Println("goroutine", i, "has not ended")
				os.Exit(1)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	fmt.Println(n, "locked goroutines ended")
}
