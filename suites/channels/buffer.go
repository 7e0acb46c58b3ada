// run

// A channel with room for three takes three values without a receiver and refuses the fourth, gives them back in order,
// and after it is closed gives what is left and then zeros. A wrong count or order means that the ring in hchan is
// turned wrongly, a hang that a full or empty buffer is taken for the other.

package main

import "fmt"

func main() {
	c := make(chan string, 3)
	for _, word := range []string{"one", "two", "three", "four"} {
		select {
		case c <- word:
			fmt.Println("sent", word, len(c), cap(c))
		default:
			fmt.Println("no room for", word)
		}
	}
	fmt.Println(<-c)
	c <- "five"
	close(c)
	for i := 0; i < 4; i++ {
		word, ok := <-c
		fmt.Printf("%q %v\n", word, ok)
	}
}
