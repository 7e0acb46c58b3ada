// run

package main

import "runtime"

func main() {
	runtime.GOMAXPROCS(4)
	m := map[int]int{1: 1}
	go func() {
		for i := 0; ; i++ {
			m[i&1023]++
		}
	}()
	for g := 0; g < 3; g++ {
		go func() {
			for n := 0; ; {
				n += m[n&1023]
			}
		}()
	}
	select {}
}
