// run

// A goroutine is blocked in Accept and another in Read when their listener and connection are closed; both must come
// back with an error that says so. A hang means that closing does not evict those who wait in the poller
// (netpollunblock).

package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	client, err := net.Dial("tcp", listener.Addr().String())
	check(err)
	server, err := listener.Accept()
	check(err)
	defer server.Close()
	ends := make(chan error)
	go func() {
		_, err := listener.Accept()
		ends <- err
	}()
	time.Sleep(50 * time.Millisecond)
	listener.Close()
	fmt.Println("accept ended:", (<-ends).(*net.OpError).Err)
	go func() {
		_, err := client.Read(make([]byte, 1))
		ends <- err
	}()
	time.Sleep(50 * time.Millisecond)
	client.Close()
	fmt.Println("read ended:", (<-ends).(*net.OpError).Err)
}
