// run

package main

var kept [][]byte

func hoard() {
	for {
		kept = append(kept, make([]byte, 256<<20))
	}
}

func main() {
	hoard()
}
