// run

// A panic five hundred calls deep runs the deferred function of every frame on its way up and is recovered from at the
// top, twenty times, on goroutines of their own. A wrong count means that unwinding lost frames (the unwinder of libgcc
// across a goroutine's stack), a crash that it went too far.

package main

import "fmt"

func down(n int, deferred *int) {
	defer func() { *deferred++ }()
	if n == 0 {
		panic("at the bottom")
	}
	down(n-1, deferred)
}

func try() (deferred int, text interface{}) {
	defer func() { text = recover() }()
	down(499, &deferred)
	return
}

func main() {
	done := make(chan bool)
	for i := 0; i < 20; i++ {
		go func() {
			deferred, text := try()
			if deferred != 500 || text != "at the bottom" {
				fmt.Println(deferred, text)
			}
			done <- true
		}()
		<-done
	}
	fmt.Println("unwound")
}
