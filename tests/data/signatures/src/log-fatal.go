// run

package main

import "log"

func main() {
	log.Fatal("cannot open record 17")
}
