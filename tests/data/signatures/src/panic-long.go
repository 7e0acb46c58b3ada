// run

package main

import "strings"

func main() {
	panic("no room: " + strings.Repeat("and more of the same, ", 30))
}
