// run
// expect: stdout ~ "\\A(?:hello\\n|world\\n){9,10}\\Z"
// twin: pthreads/sem-wait-context

// As in the tour of Go: one say() in a goroutine, one in main, with a sleep before each word. All five of main's words
// must come, and at least four of the goroutine's. Fewer lines mean that the goroutine was not run while main slept, a
// crash that sleeping and waking threads do not go together, as with sem-timedwait.c's assertion of 2013.

package main

import (
	"fmt"
	"time"
)

func say(text string) {
	for i := 0; i < 5; i++ {
		time.Sleep(40 * time.Millisecond)
		fmt.Println(text)
	}
}

func main() {
	go say("world")
	say("hello")
}
