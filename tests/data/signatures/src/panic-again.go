// run

package main

func guard() {
	if r := recover(); r != nil {
		panic(r)
	}
}

func main() {
	defer guard()
	panic("the first")
}
