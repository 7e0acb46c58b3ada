// run

// A hundred functions are set to run within 50 ms, every second one is taken back, and the others must run exactly
// once. A wrong count means that a timer's function was lost or started twice, a hang that the goroutine for it was not
// made.

package main

import (
	"fmt"
	"sync"
	"time"
)

func main() {
	const n = 100
	var mu sync.Mutex
	var all sync.WaitGroup
	runs := make([]int, n)
	for i := 0; i < n; i++ {
		i := i
		all.Add(1)
		timer := time.AfterFunc(time.Duration(20+i%30)*time.Millisecond, func() {
			mu.Lock()
			runs[i]++
			mu.Unlock()
			all.Done()
		})
		if i%2 == 1 && timer.Stop() {
			all.Done()
			mu.Lock()
			runs[i]++ // counted as done here
			mu.Unlock()
		}
	}
	all.Wait()
	time.Sleep(50 * time.Millisecond)
	wrong := 0
	for _, times := range runs {
		if times != 1 {
			wrong++
		}
	}
	fmt.Println("wrong:", wrong)
}
