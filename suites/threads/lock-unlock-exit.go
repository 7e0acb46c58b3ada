// run

// Like lock-exit-churn and lock-ring in small, but each goroutine unlocks its thread before it ends, so libgo keeps the
// thread and nothing is destroyed. It is the control of those two: if they fail and this one passes, the end of threads
// is at fault; if this one fails too, it is the locking itself (lockedm, stoplockedm and startlockedm in proc.go).

package main

import (
	"fmt"
	"os"
	"runtime"
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
	time.Sleep(10 * time.Millisecond)
}

func main() {
	const rounds, each = 4, 10
	in, out := make(chan int), make(chan int)
	for round := 0; round < rounds; round++ {
		for i := 0; i < each; i++ {
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				v := <-in
				runtime.Gosched()
				out <- v * v
			}()
		}
		sum := 0
		for i := 0; i < each; i++ {
			in <- i
		}
		for i := 0; i < each; i++ {
			sum += <-out
		}
		if sum != 285 {
			fmt.Printf("round %d: the sum is %d instead of 285\n", round, sum)
			os.Exit(1)
		}
	}
	gone()
	fmt.Println(rounds*each, "goroutines unlocked and ended")
}
