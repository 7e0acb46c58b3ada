// run

package main

func cleanup() {
	panic("cleaning up failed")
}

func main() {
	defer cleanup()
	panic("the first")
}
