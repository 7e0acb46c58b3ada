// run

package main

import "runtime"

func main() {
	runtime.SetFinalizer(5, func(int) {})
}
