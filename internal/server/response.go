package server

import "net/http"

// response notes the status of an answer as it passes, and when its head
// left. It unwraps, so that a stream still finds what is below it.
type response struct {
	http.ResponseWriter
	status int              // 0 until the head was written
	onHead func(status int) // called once, on the handler's goroutine
	before func()           // called once right before the head is written; nil is nothing
}

func (w *response) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.sent(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.sent(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls.
func (w *response) FlushError() error {
	w.sent(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) sent(status int) {
	if w.status == 0 {
		w.status = status
		if w.before != nil {
			w.before()
		}
		w.onHead(status)
	}
}
