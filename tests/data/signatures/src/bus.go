// run

package main

import (
	"os"
	"syscall"
)

func main() {
	file, err := os.Create("bus.tmp")
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Remove("bus.tmp")
	data, err := syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	println(data[100])
}
