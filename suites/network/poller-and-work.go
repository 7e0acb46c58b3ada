// run
// env: GOMAXPROCS=1

// With one processor, two goroutines play ping-pong over TCP while a third one computes and yields. A hang means that
// the poller is asked only when nothing else runs (netpoll in findrunnable and sysmon), so that work starves the
// network.

package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func play(c net.Conn, rounds int, done chan int) {
	buffer := make([]byte, 1)
	for i := 0; i < rounds; i++ {
		_, err := c.Read(buffer)
		check(err)
		_, err = c.Write(buffer)
		check(err)
	}
	done <- rounds
}

func main() {
	go func() {
		for {
			runtime.Gosched()
		}
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	client, err := net.Dial("tcp", listener.Addr().String())
	check(err)
	server, err := listener.Accept()
	check(err)
	done := make(chan int, 2)
	go play(server, 100, done)
	go play(client, 100, done)
	_, err = client.Write([]byte("x"))
	check(err)
	fmt.Println(<-done, "rounds")
}
