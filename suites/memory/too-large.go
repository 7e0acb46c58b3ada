// run

// Slices and channels of negative and of impossible sizes are panics that can be recovered from, and leave the heap as
// it was. A crash means that a size overflows before it is checked (makeslice, makechan), a fatal error that it was
// tried.

package main

import "fmt"

func try(what string, f func()) {
	defer func() { fmt.Printf("%s: %v\n", what, recover()) }()
	f()
}

func main() {
	n, huge := -1, int(^uint(0)>>1)
	try("negative slice", func() { _ = make([]int, n) })
	try("huge slice", func() { _ = make([]int64, huge) })
	try("capacity below length", func() { _ = make([]int, 2, 1+n) })
	try("negative channel", func() { _ = make(chan int, n) })
	try("huge channel", func() { _ = make(chan int64, huge) })
	fmt.Println(len(make([]int, 1000)))
}
