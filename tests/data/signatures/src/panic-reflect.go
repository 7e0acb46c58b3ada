// run

package main

import "reflect"

func main() {
	reflect.ValueOf("text").Int()
}
