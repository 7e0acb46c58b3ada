// run
// expect: exit 2, stderr ~ "locked to thread"

// Main and four goroutines wait, each locked to its thread, and one more goroutine has ended and taken its thread
// along. The deadlock must be found; a hang means that checkdead counts a thread that is locked or gone (nmidlelocked,
// nmfreed) as running.

package main

import "runtime"

func main() {
	runtime.LockOSThread()
	started := make(chan bool)
	never := make(chan bool)
	for i := 0; i < 4; i++ {
		go func() {
			runtime.LockOSThread()
			started <- true
			<-never
		}()
		<-started
	}
	go func() {
		runtime.LockOSThread()
		started <- true
	}()
	<-started
	<-never
}
