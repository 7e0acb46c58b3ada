// run

package main

//extern __assert_fail
func assertFail(expression, file *byte, line uint32, function *byte)

func bytes(text string) *byte {
	return &[]byte(text)[0]
}

func main() {
	go func() {
		assertFail(bytes("thread->kernel_thread == 0x1f\x00"), bytes("pt-alloc.c\x00"), 7, bytes("alloc\x00"))
	}()
	select {}
}
