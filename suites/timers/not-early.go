// run
// twin: pthreads/sem-wait-context

// Sleeps of 1, 5, 20 and 100 ms must not be shorter than that by the monotonic clock. One that is means that a timed
// wait rounds down or ends when it should not (on the Hurd a wait on a semaphore has whole milliseconds), a hang that
// one of less than the clock's tick never ends.

package main

import (
	"fmt"
	"time"
)

func main() {
	for _, ms := range []int{1, 5, 20, 100} {
		for i := 0; i < 5; i++ {
			want := time.Duration(ms) * time.Millisecond
			begun := time.Now()
			time.Sleep(want)
			if took := time.Since(begun); took < want {
				fmt.Println("slept", took, "of", want)
			}
		}
	}
	fmt.Println("none was early")
}
