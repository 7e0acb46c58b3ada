// run

package main

import "os"

func main() {
	r, w, _ := os.Pipe()
	r.Close()
	os.Stdout.Close()
	for {
		if _, err := w.Write([]byte("x")); err != nil {
			panic(err)
		}
	}
}
