// run

package main

//extern __stack_chk_fail
func smashed()

func main() {
	smashed()
}
