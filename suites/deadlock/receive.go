// run
// expect: exit 2, stderr ~ "all goroutines are asleep - deadlock!"

// Main receives from a channel that nobody sends on, alone. The runtime has to say that all goroutines are asleep and
// exit with 2; a hang means that it counts a thread as running that waits (checkdead in proc.go, mcount and nmidle).

package main

func main() {
	<-make(chan int)
}
