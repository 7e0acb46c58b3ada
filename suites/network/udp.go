// run

// Fifty datagrams go to a server on the loopback interface one after the other and come back with the sender's address.
// A hang means that a datagram was lost or that the poller does not report it, a wrong text that datagrams were joined.

package main

import (
	"fmt"
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
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	go func() {
		buffer := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buffer)
			check(err)
			_, err = server.WriteTo(buffer[:n], from)
			check(err)
		}
	}()
	client, err := net.Dial("udp", server.LocalAddr().String())
	check(err)
	right := 0
	for i := 0; i < 50; i++ {
		text := fmt.Sprint("datagram ", i)
		_, err = client.Write([]byte(text))
		check(err)
		buffer := make([]byte, 100)
		n, err := client.Read(buffer)
		check(err)
		if string(buffer[:n]) == text {
			right++
		}
	}
	fmt.Println("right:", right)
}
