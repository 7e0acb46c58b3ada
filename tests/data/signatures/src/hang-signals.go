// run
// timeout: 3s

package main

import (
	"os"
	"os/signal"
)

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c)
	for {
		<-c
	}
}
