// run

package main

import "os"

func main() {
	if _, err := os.Open("/tmp/no/such/file-17.db"); err != nil {
		panic(err)
	}
}
