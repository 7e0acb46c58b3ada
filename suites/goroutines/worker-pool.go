// run
// env: GOMAXPROCS=4
// twin: pthreads/run-queue

// Four workers take 200 jobs from one buffered channel and put the results into another; the last worker to end closes
// it. A job done twice or not at all means that two receivers saw the same slot of the channel's buffer or none did
// (chan.go, run by several Ps at once), a hang that a blocked worker or the reader was not woken.

package main

import (
	"fmt"
	"os"
	"sync"
)

type result struct {
	job, square int
}

func main() {
	const workers, jobs = 4, 200
	in, out := make(chan int, 8), make(chan result, 8)
	var wg sync.WaitGroup
	wg.Add(workers)
	for w := 0; w < workers; w++ {
		go func() {
			defer wg.Done()
			for job := range in {
				out <- result{job, job * job}
			}
		}()
	}
	go func() {
		for job := 0; job < jobs; job++ {
			in <- job
		}
		close(in)
		wg.Wait()
		close(out)
	}()
	var done [jobs]int
	sum := 0
	for r := range out {
		if r.square != r.job*r.job {
			fmt.Println("wrong result for job", r.job, "-", r.square)
			os.Exit(1)
		}
		done[r.job]++
		sum += r.square
	}
	for job, times := range done {
		if times != 1 {
			fmt.Printf("job %d was done %d times\n", job, times)
			os.Exit(1)
		}
	}
	fmt.Println("sum of squares:", sum)
}
