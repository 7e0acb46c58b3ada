// run
// timeout: 3s

package main

import (
	"os"
	"time"
)

func wait(c chan int) {
	<-c
}

func main() {
	c := make(chan int)
	for i := 0; i < 5; i++ {
		go wait(c)
	}
	for i := 0; ; i++ {
		os.Stderr.WriteString("tick, goroutine 5 [is not this]\n")
		time.Sleep(200 * time.Millisecond)
	}
}
