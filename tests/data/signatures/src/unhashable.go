// run

package main

func main() {
	seen := map[interface{}]bool{}
	seen[[]int{1}] = true
}
