// run

package main

// The first argument is where C's div puts its result.
//extern div
func div(result *[4]int64, a, b int32)

func main() {
	div(new([4]int64), 1, 0)
}
