// run

// A stream over a socket in the file system: a request, an answer, and the end of the stream. On the Hurd this is
// pflocal instead of pfinet, so a program that passes here and fails over TCP points to the network stack, not to Go's
// poller.

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	folder, err := os.MkdirTemp("", "socket")
	check(err)
	defer os.RemoveAll(folder)
	listener, err := net.Listen("unix", filepath.Join(folder, "s"))
	check(err)
	go func() {
		server, err := listener.Accept()
		check(err)
		text, err := io.ReadAll(server)
		check(err)
		fmt.Fprintf(server, "you said %s", text)
		server.Close()
	}()
	client, err := net.Dial("unix", listener.Addr().String())
	check(err)
	io.WriteString(client, "hello")
	check(client.(*net.UnixConn).CloseWrite())
	answer, err := io.ReadAll(client)
	check(err)
	fmt.Println(string(answer))
}
