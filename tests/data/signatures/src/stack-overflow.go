// run

package main

import "syscall"

func down(n int) int {
	var room [1000]int
	for i := range room {
		room[i] = n + i
	}
	return down(n+1) + room[n%1000]
}

func main() {
	syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: 200 << 20, Max: 200 << 20})
	println(down(0))
}
