// run

package main

import "unsafe"

//extern malloc
func malloc(n uintptr) unsafe.Pointer

//extern free
func free(p unsafe.Pointer)

func main() {
	free(unsafe.Pointer(uintptr(malloc(64)) + 4))
}
