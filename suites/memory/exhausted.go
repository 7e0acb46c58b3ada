// run
// expect: exit 2, stderr ~ "fatal error: out of memory|fatal error: runtime: cannot allocate memory"

// The program asks for blocks of 256 megabytes, untouched, until the address space is full. The runtime must say that
// it is out of memory and exit with 2; another status means that it failed on its way out, a hang that a lock was held
// when the memory ended.

package main

var kept [][]byte

func main() {
	for i := 0; i < 1000; i++ {
		kept = append(kept, make([]byte, 256<<20))
	}
	println("all of it could be had")
}
