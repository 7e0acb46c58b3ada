// run

package main

func down(n int) int {
	var room [1000]int
	for i := range room {
		room[i] = n + i
	}
	return down(n+1) + room[n%1000]
}

func main() {
	println(down(0))
}
