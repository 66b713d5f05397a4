package pebblelog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// InUseError says that another process has the directory open.
type InUseError struct {
	Dir  string
	PID  int    // of the holder; 0 if it is not known
	Host string // of the holder; "" if it is not known
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("pebblelog: %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("pebblelog: %s is in use by process %d on %s", e.Dir, e.PID, e.Host)
}

// dirLock is a locked file that names its holder. The lock ends with the process, however that
// ends; the name stays behind and means nothing then.
type dirLock struct{ f *os.File }

func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("pebblelog: %w", err)
	}
	held, err := lockFile(f)
	if err != nil {
		return nil, fmt.Errorf("pebblelog: lock %s: %w", dir, errors.Join(err, f.Close()))
	}
	if held {
		defer f.Close()
		e := &InUseError{Dir: dir}
		b, _ := io.ReadAll(io.LimitReader(f, 512))
		fmt.Sscanf(strings.TrimSpace(string(b)), "%d %s", &e.PID, &e.Host)
		return nil, e
	}
	host, _ := os.Hostname()
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), host), 0)
	}
	if err != nil {
		return nil, fmt.Errorf("pebblelog: lock %s: %w", dir, errors.Join(err, f.Close()))
	}
	return &dirLock{f}, nil
}

func (l *dirLock) close() error { return l.f.Close() }
