// run

// Two streams are merged by a select in which a stream that has ended is set to nil and so left out. A hang means that
// a nil channel's case is taken for ready or keeps the others from being, a wrong sum that a closed one was read again.

package main

import "fmt"

func count(n int) chan int {
	c := make(chan int)
	go func() {
		for i := 1; i <= n; i++ {
			c <- i
		}
		close(c)
	}()
	return c
}

func main() {
	a, b := count(100), count(200)
	sum, received := 0, 0
	for a != nil || b != nil {
		select {
		case v, ok := <-a:
			if !ok {
				a = nil
				continue
			}
			sum += v
		case v, ok := <-b:
			if !ok {
				b = nil
				continue
			}
			sum += v
		}
		received++
	}
	fmt.Println(received, sum)
}
