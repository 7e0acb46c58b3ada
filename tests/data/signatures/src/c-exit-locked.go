// run

package main

import "runtime"

//extern abort
func abort()

func fail() {
	runtime.LockOSThread()
	abort()
}

func main() {
	for i := 0; i < 4; i++ {
		go func() {
			<-make(chan int)
		}()
	}
	runtime.Gosched()
	fail()
}
