// run

// A map grows to twenty thousand entries, loses every second one while it is walked over, and grows again. A missing or
// doubled entry means that growing a map in steps (evacuate in map.go) goes wrong, a crash that a bucket was freed
// early.

package main

import "fmt"

func main() {
	m := map[int]string{}
	for i := 0; i < 20000; i++ {
		m[i] = fmt.Sprint(i)
	}
	walked := 0
	for key := range m {
		walked++
		if key%2 == 1 {
			delete(m, key)
		}
	}
	for i := 30000; i < 40000; i++ {
		m[i] = fmt.Sprint(i)
	}
	wrong := 0
	for key, text := range m {
		if fmt.Sprint(key) != text {
			wrong++
		}
	}
	fmt.Println(len(m), walked >= 10000, wrong)
}
