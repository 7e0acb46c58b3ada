// run

package main

import "runtime"

func main() {
	runtime.GOMAXPROCS(4)
	m := map[int]int{}
	for g := 0; g < 4; g++ {
		go func() {
			for i := 0; ; i++ {
				m[i&1023]++
			}
		}()
	}
	select {}
}
