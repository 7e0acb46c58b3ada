// run
// env: GOMAXPROCS=2
// twin: pthreads/sigaltstack-context

// Two hundred SIGUSR1 arrive while goroutines build maps and the heap is collected; what they compute must be right,
// and at least one signal must be seen. A crash means that a signal on a goroutine's stack, or in the middle of a
// collection, breaks what it interrupts (sigtramp, sigaltstack), a hang that a signal interrupts a wait for good.

package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
)

func build(n int) int {
	m := map[int]int{}
	for i := 0; i < n; i++ {
		m[i] = i
	}
	sum := 0
	for _, v := range m {
		sum += v
	}
	return sum
}

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	var all sync.WaitGroup
	var sums [3]int
	for g := range sums {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for i := 0; i < 20; i++ {
				sums[g] += build(300)
				runtime.Gosched()
			}
		}(g)
	}
	for i := 0; i < 200; i++ {
		syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
		if i%40 == 0 {
			runtime.GC()
		}
		runtime.Gosched()
	}
	all.Wait()
	fmt.Println(<-c == syscall.SIGUSR1, sums)
}
