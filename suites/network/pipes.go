// run

// Thirty goroutines wait for a byte on a pipe each, and the bytes are written in the opposite order. No network at all:
// it is the poller by itself, or thirty threads in read(2) where it is off. A hang means that one wake-up was lost.

package main

import (
	"fmt"
	"os"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	const n = 30
	var writers [n]*os.File
	got := make(chan byte)
	for i := range writers {
		reader, writer, err := os.Pipe()
		check(err)
		writers[i] = writer
		go func() {
			buffer := make([]byte, 1)
			_, err := reader.Read(buffer)
			check(err)
			got <- buffer[0]
		}()
	}
	for i := n - 1; i >= 0; i-- {
		_, err := writers[i].Write([]byte{byte(i)})
		check(err)
		if b := <-got; int(b) != i {
			fmt.Println("got", b, "expected", i)
		}
	}
	fmt.Println("all came")
}
