// run

package main

type full struct {
	used, size int
}

func (f *full) Error() string {
	return "table full"
}

func insert() {
	panic(&full{16, 16})
}

func main() {
	insert()
}
