// run

package main

import "fmt"

func load(n int) error {
	return fmt.Errorf("record %d at %p: bad checksum", n, &n)
}

func main() {
	if err := load(17); err != nil {
		panic(err)
	}
}
