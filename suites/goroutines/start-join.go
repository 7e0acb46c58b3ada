// run
// args: 64
// twin: pthreads/run-queue

// Starts as many goroutines as its argument says, joins them with a WaitGroup and checks that each ran exactly once, in
// whatever order. A start that is lost or doubled (newproc and the run queues, proc.go of libgo) shows as a count other
// than 1, a lost wakeup of the WaitGroup's semaphore (sema.go, lock_sema.go) as a reported deadlock or a hang.

package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
)

func main() {
	n := 64
	if len(os.Args) > 1 {
		var err error
		if n, err = strconv.Atoi(os.Args[1]); err != nil {
			fmt.Println("not a number of goroutines:", os.Args[1])
			os.Exit(1)
		}
	}
	runs := make([]int32, n)
	var wg sync.WaitGroup
	wg.Add(n)
	for i := 0; i < n; i++ {
		go func(i int) {
			defer wg.Done()
			atomic.AddInt32(&runs[i], 1)
		}(i)
	}
	wg.Wait()
	for i := range runs {
		if ran := atomic.LoadInt32(&runs[i]); ran != 1 {
			fmt.Printf("goroutine %d ran %d times\n", i, ran)
			os.Exit(1)
		}
	}
	fmt.Println(n, "goroutines ran once each")
}
