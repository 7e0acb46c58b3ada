// run

package main

func down(n int) int {
	if n == 0 {
		panic("at the bottom")
	}
	return down(n-1) + n
}

func main() {
	println(down(500))
}
