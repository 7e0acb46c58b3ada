// run

// A read with a deadline must end with a timeout while nothing comes, and the connection must work afterwards. A hang
// means that the deadline's timer does not wake who waits in the poller, another error that it broke the connection.

package main

import (
	"errors"
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
	buffer := make([]byte, 10)
	for i := 0; i < 3; i++ {
		check(client.SetReadDeadline(time.Now().Add(40 * time.Millisecond)))
		_, err = client.Read(buffer)
		fmt.Println("timeout:", errors.Is(err, os.ErrDeadlineExceeded))
	}
	check(client.SetReadDeadline(time.Time{}))
	_, err = server.Write([]byte("late"))
	check(err)
	n, err := client.Read(buffer)
	check(err)
	fmt.Println(string(buffer[:n]))
}
