// run

package main

func main() {
	var any interface{} = "five"
	println(any.(int))
}
