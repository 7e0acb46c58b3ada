// run

package main

//extern abort
func abort()

func main() {
	abort()
}
