// run

package main

//extern __assert_fail
func assertFail(expression, file *byte, line uint32, function *byte)

func main() {
	expression, file, function := "list->count == 0\x00", "../src/list.c\x00", "list_free\x00"
	assertFail(bytes(expression), bytes(file), 42, bytes(function))
}

func bytes(text string) *byte {
	return &[]byte(text)[0]
}
