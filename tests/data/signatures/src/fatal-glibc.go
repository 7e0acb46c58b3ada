// run

package main

import "os"

// What glibc 2.37 and later say of an assertion of their own, as libc_fatal.c writes it.
//extern abort
func abort()

func main() {
	os.Stderr.WriteString("Fatal glibc error: pthread_mutex_lock.c:450 (__pthread_mutex_lock_full): " +
		"assertion failed: e != ESRCH || !robust\n")
	abort()
}
