// run
// timeout: 3s
// env: GOTRACEBACK=none

package main

func main() {
	for {
	}
}
