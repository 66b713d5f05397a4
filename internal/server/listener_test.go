package server

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// scarceListener fails for want of files so many times before each connection.
type scarceListener struct {
	net.Listener
	fails, left int
}

func (l *scarceListener) Accept() (net.Conn, error) {
	if l.left > 0 {
		l.left--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	l.left = l.fails
	c, _ := net.Pipe()
	return c, nil
}

func TestAcceptingWaitsForFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := &patientListener{
			Listener: &scarceListener{fails: 100, left: 100},
			logger:   slog.New(slog.NewTextHandler(&log, nil)),
		}
		for range 5 {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d warnings in half a minute", n)
		}
	})
}
