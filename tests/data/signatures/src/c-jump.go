// run

package main

import "unsafe"

func main() {
	address := uintptr(0x10)
	entry := &address
	f := *(*func())(unsafe.Pointer(&entry))
	f()
}
