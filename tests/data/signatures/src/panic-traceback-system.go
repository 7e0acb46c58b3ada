// run
// env: GOTRACEBACK=system

package main

func main() {
	panic("seen to the bottom")
}
