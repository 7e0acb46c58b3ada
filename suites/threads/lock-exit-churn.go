// run
// args: 50
// timeout: 60s
// twin: pthreads/from-context-churn

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

// gone waits until the other goroutines, and the threads they leave, have ended.
func gone() {
	for i := 0; runtime.NumGoroutine() > 1; i++ {
		if i == 2000 {
			fmt.Println("goroutines that have not ended:", runtime.NumGoroutine()-1)
			os.Exit(1)
		}
		time.Sleep(2 * time.Millisecond)
	}
	time.Sleep(2 * time.Millisecond)
}

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
		gone()
	}
	fmt.Println(n, "locked goroutines ended")
}
