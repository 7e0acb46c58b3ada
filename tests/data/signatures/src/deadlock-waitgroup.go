// run

package main

import "sync"

func main() {
	var all sync.WaitGroup
	all.Add(1)
	all.Wait()
}
