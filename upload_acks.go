package tailrace

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// acks writes the progress of an upload as lines of JSON, while the body is
// still read: one after each append, or the newest one of those that came
// within the same interval. One goroutine writes, so that a client that does
// not read its answers does not hold up the upload.
type acks struct {
	p  *publication
	rc *http.ResponseController

	mu     sync.Mutex // guards latest and fresh
	latest Upload
	fresh  bool

	wake chan struct{} // capacity 1: latest is fresh
	stop chan struct{}
	done chan struct{}
}

// startAcks sends the head of an answer that goes along with the body, if the
// client asks for it and the connection can: else it returns nil.
func (p *publication) startAcks() *acks {
	accept := p.r.Header["Accept"]
	if len(accept) == 0 || !namesType(accept, ndjsonType) || !p.r.ProtoAtLeast(1, 1) {
		return nil
	}
	rc := http.NewResponseController(p.w)
	if rc.EnableFullDuplex() != nil {
		return nil
	}
	if p.r.ProtoMajor == 1 && p.r.Header.Get("Expect") != "" {
		p.w.WriteHeader(http.StatusContinue) // the first read would be too late: the head precedes it
	}
	h := p.w.Header()
	h.Set("Content-Type", ndjsonType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	p.w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return nil
	}
	a := &acks{p: p, rc: rc, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go a.run()
	return a
}

// put takes the newest state. It does not block.
func (a *acks) put(u Upload) {
	a.mu.Lock()
	a.latest, a.fresh = u, true
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// namesType reports whether Accept names the media type itself; a wildcard is
// not enough to ask for something so unusual.
func namesType(accept []string, mediaType string) bool {
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(item, ";")
			if strings.EqualFold(strings.TrimSpace(name), mediaType) {
				return true
			}
		}
	}
	return false
}

func (a *acks) run() {
	defer close(a.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-a.stop:
			return
		}
		select {
		case <-a.wake:
		case <-a.stop:
			return
		}
		a.mu.Lock()
		u, fresh := a.latest, a.fresh
		a.fresh = false
		a.mu.Unlock()
		if fresh && a.write(appendUpload(nil, &u, "")) != nil {
			return // the client is gone or does not read; the body says which
		}
		pause.Reset(a.p.times.ack)
	}
}

// finish writes the last line, which has the end's state: that it is done, or
// the problem.
func (a *acks) finish(u Upload, prob *problem.Problem) {
	close(a.stop)
	<-a.done
	end := `,"done":true`
	if prob != nil {
		text, err := json.Marshal(prob)
		if err != nil { // no member that is set here can fail
			text = []byte(`{"type":"` + problem.TypePrefix + prob.Name + `"}`)
		}
		end = `,"error":` + string(text)
	}
	a.write(appendUpload(nil, &u, end))
	a.rc.SetWriteDeadline(time.Time{})
}

func (a *acks) write(line []byte) error {
	a.rc.SetWriteDeadline(time.Now().Add(ackTimeout))
	if _, err := a.p.w.Write(append(line, '\n')); err != nil {
		return err
	}
	return a.rc.Flush()
}
