// run

package main

import (
	"runtime/debug"
	"syscall"
)

func main() {
	debug.SetMaxThreads(12)
	for i := 0; i < 20; i++ {
		var fds [2]int
		syscall.Pipe(fds[:])
		go syscall.Read(fds[0], make([]byte, 1))
	}
	select {}
}
