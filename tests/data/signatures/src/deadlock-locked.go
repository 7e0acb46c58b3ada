// run

package main

import "runtime"

func main() {
	runtime.LockOSThread()
	<-make(chan int)
}
