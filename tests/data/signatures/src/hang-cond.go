// run
// timeout: 3s

package main

import (
	"sync"
	"time"
)

func sleeper(c *sync.Cond) {
	c.L.Lock()
	c.Wait()
	c.L.Unlock()
}

func main() {
	c := sync.NewCond(new(sync.Mutex))
	for i := 0; i < 4; i++ {
		go sleeper(c)
	}
	for {
		time.Sleep(time.Second)
	}
}
