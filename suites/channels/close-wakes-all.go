// run

// Sixty goroutines wait on one channel, and closing it must wake every one with a zero value. A hang means that close
// forgot a waiter (closechan walks recvq), a goroutine that got a value that it was woken by something else.

package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

func main() {
	const n = 60
	c := make(chan int)
	var waiting, woken, wrong int32
	var ended sync.WaitGroup
	ended.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			defer ended.Done()
			atomic.AddInt32(&waiting, 1)
			if value, ok := <-c; ok || value != 0 {
				atomic.AddInt32(&wrong, 1)
			}
			atomic.AddInt32(&woken, 1)
		}()
	}
	for atomic.LoadInt32(&waiting) < n {
		runtime.Gosched()
	}
	close(c)
	ended.Wait()
	fmt.Println("woken:", woken, "wrong:", wrong)
}
