// run
// timeout: 3s

package main

import "time"

func produce(c chan int) {
	for i := 0; ; i++ {
		c <- i
	}
}

func main() {
	c := make(chan int)
	for i := 0; i < 7; i++ {
		go produce(c)
	}
	for {
		time.Sleep(time.Second)
	}
}
