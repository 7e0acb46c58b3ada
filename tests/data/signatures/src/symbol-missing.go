// run

package main

import (
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	found, _ := filepath.Glob("/lib*/*/libm.so.6")
	if len(found) == 0 {
		found, _ = filepath.Glob("/lib*/libm.so.6")
	}
	os.Mkdir("fake", 0o755)
	os.Remove("fake/libgo.so.21")
	os.Symlink(found[0], "fake/libgo.so.21")
	println(syscall.Exec(os.Args[0], os.Args, []string{"LD_LIBRARY_PATH=fake", "LD_BIND_NOW=1"}).Error())
}
