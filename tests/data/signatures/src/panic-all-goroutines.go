// run
// env: GOTRACEBACK=all

package main

import "runtime"

func wait(c chan int) {
	<-c
}

func main() {
	c := make(chan int)
	for i := 0; i < 3; i++ {
		go wait(c)
	}
	runtime.Gosched()
	panic("with all of them")
}
