// run

// Goroutines panic, one after the other, and recover in a deferred function; the last panics come from the runtime, the
// nil pointer's through SIGSEGV. Each line shows how far it came. A missing one means that the unwinder could not get
// across a goroutine's stack (go-unwind.c and libgcc), or that the signal was not turned into a panic (sigpanic).

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

type point struct {
	x, y int
}

// Variables of the package, so that the compiler cannot know that they are nil.
var (
	table   map[string]int
	list    []int
	nowhere *point
	any     interface{} = "text"
)

func try(name string, f func()) {
	caught := make(chan interface{})
	go func() {
		defer func() { caught <- recover() }()
		f()
	}()
	switch v := (<-caught).(type) {
	case nil:
		fmt.Println(name, "did not panic")
		os.Exit(1)
	case runtime.Error:
		fmt.Printf("%s: %v\n", name, v)
	case error:
		fmt.Printf("%s: error %v\n", name, v)
	default:
		fmt.Printf("%s: %v\n", name, v)
	}
}

func main() {
	try("value", func() { panic("thrown by hand") })
	try("error", func() { panic(errors.New("with a message")) })
	try("nested", func() {
		defer func() { panic(fmt.Sprint("second after ", recover())) }()
		panic("first")
	})
	try("index", func() { list[len(os.Args)+4]++ })
	try("map", func() { table["key"] = 1 })
	try("type", func() { fmt.Println(any.(error)) })
	try("nil pointer", func() { nowhere.y = 1 })
	fmt.Println("ok")
}
