package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// usualHeartbeat is that of a server that does not say.
	usualHeartbeat = 15 * time.Second
	// usualIdle is after how much silence many proxies cut, as they come.
	usualIdle = 60 * time.Second
	// beatSlack is how late a heartbeat may come: the server beats in a sweep.
	beatSlack = 3 * time.Second
)

// silence is what came on a stream without events.
type silence struct {
	opened   time.Time
	last     time.Time     // of the last line
	longest  time.Duration // without a byte, and with the stream still open after it
	begun    bool          // the opening was read, which ends with a retry: line
	beats    int           // heartbeats after it
	strange  string        // a line that is neither
	farewell bool          // the server announced the end, with another retry: line
	err      error         // of the end; nil if the stream was open at the end of the watch
}

// watch opens a stream that no event comes on, and looks at its heartbeats and
// whether it stays.
func (x *exam) watch(ctx context.Context) {
	wait := x.opts.Wait
	if wait <= 0 {
		wait = defaultWait
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(outer, wait)
	defer cancel()
	req := x.events(ctx, http.MethodGet, url.Values{"event": {probeType + "-none"}}, "")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := x.client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		if !isEventStream(resp) {
			err = errors.New(resp.Status)
		}
	}
	if err != nil {
		f := Finding{Check: checkHeartbeat, Level: Unseen, What: "no stream opened to be watched", How: reason(err)}
		if ctx.Err() != nil {
			f.How = "its head did not come; see buffering"
		}
		x.add(f)
		return
	}
	every := usualHeartbeat
	if seconds, err := strconv.Atoi(resp.Header.Get("Tailrace-Heartbeat")); err == nil && seconds > 0 {
		every = time.Duration(seconds) * time.Second
	}
	s := silence{opened: time.Now(), last: time.Now()}
	x.listenToSilence(ctx, resp.Body, &s, every)
	if outer.Err() != nil {
		return // the examination is over, and with it the watch
	}
	ended := time.Now()
	if ctx.Err() != nil {
		s.err = nil // it was we who ended it
	}
	if s.err == nil {
		s.longest = max(s.longest, ended.Sub(s.last))
	}
	x.add(x.judgeIdle(s, ended, every))
	x.add(x.judgeHeartbeat(s, ended, every))
}

// listenToSilence reads lines until the watch is over: by its time, or, when
// none was asked for, with the first heartbeat after a good deal of silence.
// Servers send some early, so that not all streams beat at once.
func (x *exam) listenToSilence(ctx context.Context, body io.Reader, s *silence, every time.Duration) {
	lines := bufio.NewReader(body)
	enough := func() bool { return x.opts.Wait <= 0 && (s.beats > 1 || s.beats > 0 && s.longest >= every/2) }
	for ctx.Err() == nil && !enough() {
		line, err := lines.ReadString('\n')
		if err != nil {
			s.err = err
			return
		}
		now := time.Now()
		s.longest, s.last = max(s.longest, now.Sub(s.last)), now
		switch line = strings.TrimRight(line, "\r\n"); {
		case strings.HasPrefix(line, "retry:"):
			s.farewell = s.begun
			s.begun = true
		case !s.begun && strings.HasPrefix(line, ":"):
		case line == ":":
			s.beats++
		default:
			s.strange = line
		}
	}
}

// judgeIdle tells whether a silent stream stays open.
func (x *exam) judgeIdle(s silence, ended time.Time, every time.Duration) Finding {
	silent, age := ended.Sub(s.last), ended.Sub(s.opened)
	f := Finding{Check: checkIdle, Level: OK, What: fmt.Sprintf("a stream stayed open over %v of silence", round(s.longest))}
	switch {
	case s.err == nil && every >= usualIdle:
		f.Level = Advice
		f.What = fmt.Sprintf("many proxies cut what is silent for %v, and heartbeats come no sooner", usualIdle)
		f.How = fmt.Sprintf("Tailrace-Heartbeat is %v", every)
		f.Change = "set stream.heartbeat of the server to 15s"
	case s.err == nil:
	case s.farewell:
		f.Level = Advice
		f.What = fmt.Sprintf("the server itself ended the stream, after %v", round(age))
		f.How = "a retry: line came before the end"
		f.Change = "none if it drains or has a stream.max_connection_age"
	default:
		f.Level = Fault
		f.What = fmt.Sprintf("silent streams are cut after %v, before a heartbeat comes", round(silent))
		if s.beats > 0 && silent < s.longest/2 {
			f.What = fmt.Sprintf("streams are cut at the age of %v, whatever comes on them", round(age))
		}
		f.How = fmt.Sprintf("the stream ended (%v) after %v without a byte; heartbeats come each %v", s.err, round(silent), every)
		f.Change = fmt.Sprintf("raise the time-out for reading from the server to more than %v, or lower stream.heartbeat", 2*every)
		f.Config = x.config(checkIdle)
	}
	return f
}

// judgeHeartbeat tells whether heartbeats come through as they are.
func (x *exam) judgeHeartbeat(s silence, ended time.Time, every time.Duration) Finding {
	f := Finding{Check: checkHeartbeat, Level: OK, What: fmt.Sprintf("heartbeats come, each %v", every)}
	age := ended.Sub(s.opened)
	switch {
	case s.strange != "":
		f.Level = Advice
		f.What = "something writes into streams, or rewrites their heartbeats"
		f.How = fmt.Sprintf("the line %q came where only : was sent", s.strange)
		f.Change = "let nothing on the way change the body of text/event-stream"
	case s.beats > 0:
	case age < every+beatSlack:
		f.Level = Unseen
		f.What = fmt.Sprintf("none was due: the server sends one after %v of silence", every)
		if s.err == nil {
			f.Change = fmt.Sprintf("--wait %v would show one", every+beatSlack)
		}
	default:
		f.Level = Fault
		f.What = "heartbeats do not come through, so that nobody can tell a silent stream from a dead one"
		f.How = fmt.Sprintf("Tailrace-Heartbeat is %v, and none came in %v", every, round(age))
		f.Change = "find what holds back or removes comment lines; see buffering"
		f.Config = x.config(checkBuffering)
	}
	return f
}
