// run

// Six goroutines block in read(2) on empty pipes, each holding a thread in the kernel, while others exchange values and
// the heap is collected; then each gets its byte. A hang before "progress" means that blocked threads keep the others
// from running (entersyscall, stopTheWorld), one after it that a thread did not come back from the read (exitsyscall).

package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	const readers = 6
	// A P for each reader and two to spare: without sysmon nobody takes a P from a blocked system call.
	runtime.GOMAXPROCS(readers + 2)
	type end struct {
		n   int
		b   byte
		err error
	}
	var fds [readers][2]int
	started, ended := make(chan bool), make(chan end)
	for i := range fds {
		check(syscall.Pipe(fds[i][:]))
		go func(fd int) {
			var buf [1]byte
			started <- true
			n, err := syscall.Read(fd, buf[:])
			ended <- end{n, buf[0], err}
		}(fds[i][0])
	}
	for range fds {
		<-started
	}
	time.Sleep(20 * time.Millisecond) // until they are in the kernel
	ping, pong := make(chan int), make(chan int)
	go func() {
		for v := range ping {
			pong <- v + 1
		}
	}()
	v := 0
	for v < 200 {
		ping <- v
		v = <-pong
	}
	runtime.GC()
	fmt.Println("progress:", v)
	sum := 0
	for i := range fds {
		_, err := syscall.Write(fds[i][1], []byte{byte(i + 1)})
		check(err)
	}
	for range fds {
		e := <-ended
		check(e.err)
		sum += e.n * int(e.b)
	}
	fmt.Println("read:", sum)
}
