// run

package main

func produce(c chan int) {
	for i := 0; i < 3; i++ {
		c <- i
	}
}

func main() {
	c := make(chan int)
	go produce(c)
	for range c {
	}
}
