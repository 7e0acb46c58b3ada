// run

package main

import "os"

func main() {
	os.Stderr.WriteString("nothing to do here\n")
	os.Exit(3)
}
