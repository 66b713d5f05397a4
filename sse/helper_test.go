package sse_test

import (
	"io"
	"log"
)

// discardLog is for servers whose errors a test provokes.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
