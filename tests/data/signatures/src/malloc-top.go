// run

package main

import "unsafe"

//extern malloc
func malloc(n uintptr) unsafe.Pointer

//extern memset
func memset(p unsafe.Pointer, c int32, n uintptr) unsafe.Pointer

func main() {
	memset(malloc(20000), 255, 20100)
	malloc(70000)
}
