// run
// timeout: 3s

package main

import "os"

// As where a crash server suspends what crashed: the assertion is all that is seen.
//extern pause
func pause() int32

func main() {
	os.Stderr.WriteString("hang: pt-create.c:167: __pthread_create_internal: Assertion `ok' failed.\n")
	for {
		pause()
	}
}
