// run
// expect: exit 2, stderr ~ "chan receive .nil chan."

// A goroutine and main wait on nil channels, which is for ever. The deadlock must be found with the state that names
// it; a hang means that the goroutine that can never run again keeps the program alive.

package main

func main() {
	var c chan int
	go func() {
		<-c
	}()
	<-c
}
