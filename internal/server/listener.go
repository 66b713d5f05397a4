package server

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// acceptPause is how long accepting rests when the process has no file left for
// a connection. Clients wait in the kernel's queue meanwhile.
const acceptPause = 50 * time.Millisecond

// patientListener waits for a free file instead of failing, and says so once a
// minute.
type patientListener struct {
	net.Listener
	logger *slog.Logger
	said   time.Time // Accept's own
}

func (l *patientListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return c, err
		}
		if time.Since(l.said) >= time.Minute {
			l.said = time.Now()
			l.logger.Warn("new connections wait, streams that are open go on: raise the limit of open files (ulimit -n)", "error", err)
		}
		time.Sleep(acceptPause)
	}
}
