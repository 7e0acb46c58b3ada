// run

// 100,000 bytes go to a server on the loopback interface and come back, written and read at the same time. A hang means
// that the poller does not see a socket become readable or writable again (netpoll), other bytes that a partial write
// was taken for a whole one.

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
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
	go func() {
		server, err := listener.Accept()
		check(err)
		io.Copy(server, server)
		server.Close()
	}()
	client, err := net.Dial("tcp", listener.Addr().String())
	check(err)
	sent := bytes.Repeat([]byte("0123456789"), 10000)
	go func() {
		_, err := client.Write(sent)
		check(err)
		check(client.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(client)
	check(err)
	fmt.Println(len(got), bytes.Equal(got, sent))
}
