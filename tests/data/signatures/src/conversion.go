// run

package main

type shape interface {
	area() float64
}

func main() {
	var any interface{} = 5
	println(any.(shape).area())
}
