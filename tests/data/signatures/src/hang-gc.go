// run
// timeout: 3s

package main

import "runtime"

var done bool

func spin() {
	for !done {
	}
}

func main() {
	runtime.GOMAXPROCS(2)
	go spin()
	for {
		runtime.Gosched()
		runtime.GC()
	}
}
