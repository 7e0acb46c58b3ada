// run

// Main waits for a goroutine that sleeps a quarter of a second first. No deadlock may be reported, since a timer will
// wake the sleeper; a report means that checkdead does not see timers, a hang that the timer does not fire with all
// asleep.

package main

import (
	"fmt"
	"time"
)

func main() {
	c := make(chan string)
	go func() {
		time.Sleep(250 * time.Millisecond)
		c <- "woken in time"
	}()
	fmt.Println(<-c)
}
