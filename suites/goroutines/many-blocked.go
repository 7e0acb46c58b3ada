// run
// timeout: 60s

// Keeps 500 goroutines alive together, all blocked on one channel, then lets them go by closing it. Each needs a stack
// of its own, 2 MB of address space where stacks cannot be split. "out of memory" or an mmap errno means that stacks
// (malg, runtime_malg) do not fit, a short sum that the close did not wake everyone (closechan and ready).

package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
)

func main() {
	const n = 500
	var blocked, ended sync.WaitGroup
	gate := make(chan struct{})
	results := make(chan int, n)
	blocked.Add(n)
	ended.Add(n)
	for i := 0; i < n; i++ {
		go func(i int) {
			defer ended.Done()
			blocked.Done()
			<-gate
			results <- i
		}(i)
	}
	blocked.Wait()
	if alive := runtime.NumGoroutine(); alive < n+1 {
		fmt.Println("too few goroutines alive:", alive)
		os.Exit(1)
	}
	close(gate)
	ended.Wait()
	close(results)
	count, sum := 0, 0
	for i := range results {
		count++
		sum += i
	}
	if count != n || sum != n*(n-1)/2 {
		fmt.Println("woken:", count, "sum:", sum)
		os.Exit(1)
	}
	fmt.Println(count, "goroutines blocked and woke")
}
