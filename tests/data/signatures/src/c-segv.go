// run

package main

import "unsafe"

//extern memset
func memset(p unsafe.Pointer, c int32, n uintptr) unsafe.Pointer

func main() {
	memset(unsafe.Pointer(uintptr(0xdeadbee0)), 1, 64)
}
