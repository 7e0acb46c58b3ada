// run

// Twenty clients at once each send five lines to a server that has a goroutine for each, and get them back. A hang
// means that readiness of one of many sockets was lost or given to another (netpoll's descriptors), a wrong line
// likewise.

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
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
		for {
			server, err := listener.Accept()
			check(err)
			go io.Copy(server, server)
		}
	}()
	var all sync.WaitGroup
	var mu sync.Mutex
	right := 0
	for i := 0; i < 20; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			client, err := net.Dial("tcp", listener.Addr().String())
			check(err)
			defer client.Close()
			for j := 0; j < 5; j++ {
				line := fmt.Sprintf("client %02d line %d", i, j)
				_, err = io.WriteString(client, line)
				check(err)
				got := make([]byte, len(line))
				_, err = io.ReadFull(client, got)
				check(err)
				if string(got) == line {
					mu.Lock()
					right++
					mu.Unlock()
				}
			}
		}(i)
	}
	all.Wait()
	fmt.Println("right lines:", right)
}
