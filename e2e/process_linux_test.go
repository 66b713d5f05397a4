package e2e

import "syscall"

// dieWithParent has the kernel kill a child whose test binary is killed
// itself, by go test's time limit for one.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
