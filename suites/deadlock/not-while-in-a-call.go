// run

// Main waits for a goroutine that is blocked in read(2) on a pipe, where a timer's function will write. No deadlock may
// be reported while a thread is in the kernel; a report means that a system call counts as waiting, a hang that the
// timer waits for the thread that reads.

package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

func main() {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	time.AfterFunc(200*time.Millisecond, func() { syscall.Write(fds[1], []byte("x")) })
	c := make(chan int)
	go func() {
		n, _ := syscall.Read(fds[0], make([]byte, 1))
		c <- n
	}()
	fmt.Println("read:", <-c)
}
