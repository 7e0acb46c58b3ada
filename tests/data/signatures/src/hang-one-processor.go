// run
// timeout: 3s
// env: GOMAXPROCS=1

package main

func main() {
	c := make(chan int)
	go func() {
		for {
		}
	}()
	<-c
}
