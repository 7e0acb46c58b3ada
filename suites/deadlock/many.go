// run
// expect: exit 2, stderr ~ "all goroutines are asleep - deadlock!"

// A hundred goroutines have done some work and wait for one another in a ring in which no token is left. All must be
// seen as asleep; a hang means that the count of running threads is wrong after many of them were woken and parked.

package main

func main() {
	const n = 100
	channels := make([]chan int, n)
	for i := range channels {
		channels[i] = make(chan int)
	}
	for i := range channels {
		go func(i int) {
			for {
				if token := <-channels[i]; token > 0 {
					channels[(i+1)%n] <- token - 1
				}
			}
		}(i)
	}
	channels[0] <- 500
	select {}
}
