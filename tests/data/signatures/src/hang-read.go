// run
// timeout: 3s

package main

import "syscall"

func main() {
	var fds [2]int
	syscall.Pipe(fds[:])
	for i := 0; i < 4; i++ {
		go syscall.Read(fds[0], make([]byte, 1))
	}
	syscall.Read(fds[0], make([]byte, 1))
}
