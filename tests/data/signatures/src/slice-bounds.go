// run

package main

import "os"

func main() {
	values := make([]int, 3)
	_ = values[:9+len(os.Args)]
}
