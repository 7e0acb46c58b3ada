// run

package main

func fill(n int) {
	panic("the table is full")
}

func main() {
	fill(16)
}
