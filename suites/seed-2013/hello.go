// run
// twin: pthreads/from-context

// The first program of all. Even this one makes a second thread (sysmon, and one for the collector), which was the
// first thing seen in 2013 when pthread_create's calls were printed. A failure here means that no other result counts.

package main

import "fmt"

func main() {
	fmt.Println("Hello World!")
}
