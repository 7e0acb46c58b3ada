// run

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprint(os.Stderr, "reading the table... ")
	panic("the table is gone")
}
