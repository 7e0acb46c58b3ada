// run
// env: GOMAXPROCS=2

// A sender offers each number on two channels at once with select, two receivers pass on what they get, and every
// number must arrive once. It is the idea of GCC's chan/doubleselect, which failed on the Hurd in 2013: a number that
// comes twice or never means that a select that had been decided was decided again (selectDone in chan.go).

package main

import (
	"fmt"
	"os"
)

func main() {
	const n = 3000
	a, b, all := make(chan int), make(chan int), make(chan int)
	go func() {
		for i := 0; i < n; i++ {
			select {
			case a <- i:
			case b <- i:
			}
		}
		close(a)
		close(b)
	}()
	for _, c := range []chan int{a, b} {
		go func(c chan int) {
			for v := range c {
				all <- v
			}
			all <- -1
		}(c)
	}
	var seen [n]bool
	count := 0
	for open := 2; open > 0; {
		v := <-all
		if v < 0 {
			open--
			continue
		}
		if seen[v] {
			fmt.Println("twice:", v)
			os.Exit(1)
		}
		seen[v] = true
		count++
	}
	fmt.Println("each once:", count)
}
