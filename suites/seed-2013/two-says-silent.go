// run

// Two go statements, and main returns at once: the program must print nothing and exit with 0. In 2013 the silence was
// taken for a bug, but main does not wait for goroutines. Any output, or another status, is the surprise here.

package main

import (
	"fmt"
	"time"
)

func say(text string) {
	for i := 0; i < 5; i++ {
		time.Sleep(10 * time.Second)
		fmt.Println(text)
	}
}

func main() {
	go say("world")
	go say("hello")
}
