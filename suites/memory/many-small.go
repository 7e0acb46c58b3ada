// run

// A hundred thousand small objects of different sizes are kept in a list and then read again. A wrong sum or a crash
// means that size classes or their spans overlap (mcache, mcentral), an out of memory that the heap does not grow
// rightly.

package main

import "fmt"

type item struct {
	next *item
	data []byte
}

func main() {
	var list *item
	for i := 0; i < 100000; i++ {
		data := make([]byte, 1+i%60)
		data[0] = byte(i)
		data[len(data)-1] = byte(i)
		list = &item{list, data}
	}
	count, wrong := 0, 0
	for i := 99999; list != nil; i-- {
		if list.data[0] != byte(i) || list.data[len(list.data)-1] != byte(i) {
			wrong++
		}
		list = list.next
		count++
	}
	fmt.Println(count, wrong)
}
