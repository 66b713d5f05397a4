//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pebblelog

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock of f, which is of the open file: a second open in the same process
// does not get it either.
func lockFile(f *os.File) (held bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
