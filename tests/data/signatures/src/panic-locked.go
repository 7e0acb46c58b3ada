// run

package main

import "runtime"

func worker() {
	runtime.LockOSThread()
	panic("on a thread of its own")
}

func main() {
	go worker()
	select {}
}
