// run

package main

//extern raise
func raise(signal int32) int32

func main() {
	raise(8)
	for {
	}
}
