// run

package main

func guard() {
	if r := recover(); r != nil {
		panic("cleaning up failed")
	}
}

func main() {
	defer guard()
	panic("the first")
}
