// run

package main

import "os"

func at(values []int, i int) int {
	return values[i]
}

func main() {
	at([]int{1, 2, 3}, 4+len(os.Args))
}
