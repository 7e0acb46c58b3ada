// run
// env: GOTRACEBACK=none

package main

func main() {
	panic("nobody sees where")
}
