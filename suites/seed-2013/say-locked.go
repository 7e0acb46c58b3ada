// run
// twin: pthreads/create-chain-context

// The two say() calls of the report of 2013, but waited for, and each word is said by a goroutine of its own that locks
// its thread, starts the next one and ends: threads are made while those before them die. A word out of turn means that
// a goroutine ran twice, a hang that one was lost, a crash that making and ending threads do not go together.

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

type word struct {
	who   string
	times int
}

func say(who string, times, last int, said chan<- word) {
	runtime.LockOSThread()
	time.Sleep(5 * time.Millisecond)
	said <- word{who, times}
	if times < last {
		go say(who, times+1, last, said)
	}
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
	const last = 15
	said := make(chan word)
	go say("hello", 1, last, said)
	go say("world", 1, last, said)
	heard := make(map[string]int)
	for i := 0; i < 2*last; i++ {
		w := <-said
		heard[w.who]++
		if heard[w.who] != w.times {
			fmt.Println("heard", w.who, heard[w.who], "times, but it was said", w.times, "times")
			os.Exit(1)
		}
	}
	gone()
	fmt.Println("hello", heard["hello"], "world", heard["world"])
}
