// run

package main

import (
	"os"
	"syscall"
)

func main() {
	env := []string{"LD_LIBRARY_PATH=/nowhere"}
	println(syscall.Exec(os.Args[0], os.Args, env).Error())
}
