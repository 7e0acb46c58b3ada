// run

// Main starts two goroutines and returns at once: the program has to end with status 0 and print nothing, for Go does
// not wait for goroutines. The author of the report of 2013 took this for a bug. Each sleeps a minute before its first
// word, so a word, or a hang, means that main waited for them (the end of runtime.main, exit with threads alive).

package main

import (
	"fmt"
	"time"
)

func say(word string) {
	for i := 0; i < 5; i++ {
		time.Sleep(time.Minute)
		fmt.Println(word)
	}
}

func main() {
	go say("world")
	go say("hello")
}
