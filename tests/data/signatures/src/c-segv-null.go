// run

package main

import "unsafe"

//extern strlen
func strlen(p unsafe.Pointer) uintptr

func main() {
	println(strlen(nil))
}
