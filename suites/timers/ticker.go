// run

// A ticker of 20 ms must tick ten times, must keep at most one tick for a reader that is late, and must be silent once
// it is stopped. A hang means that a periodic timer is not put back into the heap, a tick after Stop that it is not
// removed.

package main

import (
	"fmt"
	"time"
)

func main() {
	ticker := time.NewTicker(20 * time.Millisecond)
	for i := 0; i < 10; i++ {
		<-ticker.C
	}
	time.Sleep(150 * time.Millisecond)
	ticker.Stop()
	kept := 0
	for len(ticker.C) > 0 {
		<-ticker.C
		kept++
	}
	select {
	case <-ticker.C:
		fmt.Println("a tick after Stop")
	case <-time.After(100 * time.Millisecond):
		fmt.Println("ticks kept:", kept)
	}
}
