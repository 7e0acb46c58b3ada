// run

package main

import "sort"

func main() {
	values := []int{3, 2, 1}
	sort.Slice(values, func(i, j int) bool {
		panic("compared")
	})
}
