// run
// env: GOMAXPROCS=4
// twin: pthreads/migrate

// Four goroutines, two hundred calls deep, pass turns around and go on whichever thread is free, while others lock
// theirs. A crash or a wrong sum means that something of the thread it ran on before stayed on the stack, which was the
// trouble of 2013: the thread was found by the stack's address.

package main

import (
	"fmt"
	"runtime"
)

func down(n int, turn, next chan int) int {
	if n > 0 {
		return down(n-1, turn, next) + 1
	}
	sum := 0
	for i := 0; i < 100; i++ {
		v := <-turn
		sum += v
		next <- v + 1
		runtime.Gosched()
	}
	return sum
}

func main() {
	const n = 4
	var turns [n]chan int
	for i := range turns {
		turns[i] = make(chan int, 1)
		go func() {
			runtime.LockOSThread()
			for i := 0; i < 50; i++ {
				runtime.Gosched()
			}
		}()
	}
	end := make(chan int)
	for i := range turns {
		go func(i int) { end <- down(200, turns[i], turns[(i+1)%n]) }(i)
	}
	turns[0] <- 0
	sum := 0
	for range turns {
		sum += <-end
	}
	fmt.Println(sum)
}
