// run
// env: GOMAXPROCS=2

// One goroutine spins on its processor until a timer's goroutine sets a flag. A hang means that timers of a processor
// that never stops are not taken over by another one (stealing timers, sysmon), since this Go cannot interrupt a loop.

package main

import (
	"fmt"
	"sync/atomic"
	"time"
)

func main() {
	var flag int32
	go func() {
		time.Sleep(30 * time.Millisecond)
		atomic.StoreInt32(&flag, 1)
	}()
	go func() {
		for {
			time.Sleep(time.Millisecond)
		}
	}()
	time.Sleep(5 * time.Millisecond)
	for atomic.LoadInt32(&flag) == 0 {
	}
	fmt.Println("the timer came through")
}
