// run

package main

import "syscall"

func main() {
	limit := syscall.Rlimit{Cur: 180 << 20, Max: 180 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
		panic(err)
	}
	for i := 0; i < 100; i++ {
		var fds [2]int
		syscall.Pipe(fds[:])
		go syscall.Read(fds[0], make([]byte, 1))
	}
	select {}
}
