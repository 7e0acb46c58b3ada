// run
// timeout: 3s

package main

import (
	"runtime"
	"time"
)

func locked(c chan int) {
	runtime.LockOSThread()
	<-c
}

func main() {
	c := make(chan int)
	for i := 0; i < 5; i++ {
		go locked(c)
	}
	for {
		time.Sleep(time.Second)
	}
}
