// run

package main

func main() {
	done := make(chan bool)
	go func() {
		func() {
			panic("in a closure of a closure")
		}()
	}()
	<-done
}
