//go:build unix

package tailrace

import "syscall"

// fileLimit returns how many files, sockets among them, the process may have
// open. Go has raised the soft limit to the hard one by now.
func fileLimit() (files uint64, ok bool) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Cur), true
}
