// run
// timeout: 3s

package main

func main() {
	for {
	}
}
