// run
// twin: pthreads/fork-wait-context

// Five children are started one after the other and end with statuses 0 to 4, and a sixth by SIGKILL; each end must be
// reported right. A hang means that fork or wait does not work in a program with threads (forkExec, wait4), a wrong
// status that it was another child's or decoded as on another system.

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	for i := 0; i < 5; i++ {
		command := exec.Command("/bin/sh", "-c", fmt.Sprintf("exit %d", i))
		command.Run()
		fmt.Println(command.ProcessState.ExitCode())
	}
	command := exec.Command("/bin/sh", "-c", "while :; do sleep 1; done")
	if err := command.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	command.Process.Kill()
	command.Wait()
	status := command.ProcessState.Sys().(syscall.WaitStatus)
	fmt.Println("killed:", status.Signaled() && status.Signal() == syscall.SIGKILL)
}
