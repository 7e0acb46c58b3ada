// run

package main

func third() {
	panic("third")
}

func second() {
	defer third()
	panic("second")
}

func main() {
	defer second()
	panic("first")
}
