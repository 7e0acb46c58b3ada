// run
// timeout: 3s

package main

var total int

func collatz(n int) {
	for {
		if total += n; n%2 == 0 {
			n /= 2
		} else {
			n = 3*n + 1
		}
	}
}

func main() {
	collatz(27)
}
