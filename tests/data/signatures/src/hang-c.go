// run
// timeout: 3s

package main

//extern pause
func pause() int32

func main() {
	for {
		pause()
	}
}
