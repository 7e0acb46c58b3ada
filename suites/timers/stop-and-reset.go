// run

// A timer that is stopped in time never fires, one that has fired says so, and one that is reset fires once, at its new
// time. Anything else means that a timer changed its state in another thread's heap without being noticed (modtimer,
// deltimer in time.go).

package main

import (
	"fmt"
	"time"
)

func main() {
	stopped := time.NewTimer(time.Hour)
	fmt.Println("stopped in time:", stopped.Stop(), stopped.Stop())
	fired := time.NewTimer(10 * time.Millisecond)
	<-fired.C
	fmt.Println("stopped too late:", fired.Stop())
	reset := time.NewTimer(time.Hour)
	fmt.Println("was running:", reset.Reset(30*time.Millisecond))
	<-reset.C
	select {
	case <-reset.C:
		fmt.Println("fired twice")
	case <-stopped.C:
		fmt.Println("fired though stopped")
	case <-time.After(100 * time.Millisecond):
		fmt.Println("fired once")
	}
}
