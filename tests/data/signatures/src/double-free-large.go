// run

package main

import "unsafe"

//extern malloc
func malloc(n uintptr) unsafe.Pointer

//extern free
func free(p unsafe.Pointer)

func main() {
	p := malloc(5000)
	malloc(5000)
	free(p)
	free(p)
}
