// run
// env: GOTRACEBACK=crash

package main

func main() {
	panic("with a core")
}
