// run
// timeout: 3s

package main

import "fmt"

func main() {
	for i := 0; ; i++ {
		fmt.Println("still at", i)
	}
}
