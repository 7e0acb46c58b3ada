// run

package main

import "sync"

func main() {
	var all sync.WaitGroup
	all.Done()
}
