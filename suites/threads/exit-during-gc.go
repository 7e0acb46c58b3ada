// run

// One goroutine collects garbage all the time while five rounds of six locked goroutines build and add up lists and end
// with their threads. To stop the world the collector needs every P, also those that dying threads are handing on. A
// hang means that a P was lost with its thread (mexit, handoffp), a wrong list that a live stack was not scanned.

package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

type node struct {
	value int
	next  *node
}

func build(n int) int {
	var head *node
	for i := 1; i <= n; i++ {
		head = &node{i, head}
		if i%50 == 0 {
			runtime.Gosched()
		}
	}
	sum := 0
	for ; head != nil; head = head.next {
		sum += head.value
	}
	return sum
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
	const rounds, each = 5, 6
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	sums := make(chan int)
	for round := 0; round < rounds; round++ {
		for i := 0; i < each; i++ {
			go func() {
				runtime.LockOSThread()
				sums <- build(200)
			}()
		}
		for i := 0; i < each; i++ {
			if sum := <-sums; sum != 20100 {
				fmt.Printf("round %d: a list's sum is %d instead of 20100\n", round, sum)
				os.Exit(1)
			}
		}
	}
	close(stop)
	<-stopped
	gone()
	fmt.Println(rounds*each, "threads ended during collections")
}
