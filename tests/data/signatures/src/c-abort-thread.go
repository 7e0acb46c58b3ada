// run

package main

import "runtime"

//extern abort
func abort()

func main() {
	go func() {
		runtime.LockOSThread()
		abort()
	}()
	select {}
}
