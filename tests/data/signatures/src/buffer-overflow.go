// run

package main

import "unsafe"

//extern __memcpy_chk
func copyChecked(to, from unsafe.Pointer, n, room uintptr) unsafe.Pointer

func main() {
	var to, from [16]byte
	copyChecked(unsafe.Pointer(&to), unsafe.Pointer(&from), 16, 8)
}
