// run
// timeout: 3s

package main

import "time"

func both(a, b chan int) {
	select {
	case <-a:
	case b <- 1:
	}
}

func main() {
	a, b := make(chan int), make(chan int)
	for i := 0; i < 4; i++ {
		go both(a, b)
	}
	for {
		time.Sleep(time.Second)
	}
}
