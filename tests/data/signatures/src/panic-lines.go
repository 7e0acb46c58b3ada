// run

package main

func main() {
	panic("first line\nsecond line\ngoroutine 5 is what this text says")
}
