// run
// twin: pthreads/self-context

// LockOSThread counts: a goroutine stays on its thread until it has unlocked as often as it locked, and unlocking once
// too often does nothing. Half of the goroutines end with a lock left, half without. "moved" means that the count was
// lost (lockedExt) or that pthread_self() is wrong on a goroutine's stack, which was the Hurd's trouble in 2013.

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

//extern pthread_self
func pthreadSelf() uintptr

// stays lets others run for a while and says whether the goroutine is still on the same thread.
func stays() bool {
	before := pthreadSelf()
	runtime.Gosched()
	time.Sleep(2 * time.Millisecond)
	return pthreadSelf() == before
}

func nest(depth, unlocks int, result chan<- string) {
	for i := 0; i < depth; i++ {
		runtime.LockOSThread()
	}
	for i := 0; i < unlocks; i++ {
		if i < depth && !stays() {
			result <- fmt.Sprintf("moved after %d of %d unlocks", i, depth)
			return
		}
		runtime.UnlockOSThread()
	}
	if unlocks < depth && !stays() {
		result <- fmt.Sprintf("moved before its end, %d of %d unlocks", unlocks, depth)
		return
	}
	result <- "ok"
}

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
	result := make(chan string)
	started := 0
	for depth := 1; depth <= 4; depth++ {
		for _, unlocks := range []int{0, depth - 1, depth, depth + 1} {
			go nest(depth, unlocks, result)
			started++
		}
	}
	for i := 0; i < started; i++ {
		if word := <-result; word != "ok" {
			fmt.Println(word)
			os.Exit(1)
		}
	}
	gone()
	fmt.Println(started, "goroutines counted their locks")
}
