// run

// A connection to a port that nobody listens on must be refused at once. A hang means that a failed connect is not
// reported to who waits for the socket to become writable, another error that errno is another system's.

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	address := listener.Addr().String()
	listener.Close()
	_, err = net.Dial("tcp", address)
	fmt.Println("refused:", errors.Is(err, syscall.ECONNREFUSED))
}
