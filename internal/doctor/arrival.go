package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const (
	// probes is how many events are published.
	probes = 5
	// lateAfter is a delay that no network has in addition to that of the
	// publisher's answer; TCP corks of 200 ms are the least that is seen.
	lateAfter = 150 * time.Millisecond
	// probeType is the type of the events, so that a stream of a topic that is
	// in use has them alone.
	probeType = "doctor"
)

// lags are how long after the answers to their publisher events came, in
// order; less than nothing if they came first.
type lags []time.Duration

// typical is the least but one: of one alone a busy machine may be the reason,
// or a lucky moment.
func (l lags) typical() time.Duration {
	if len(l) < 2 {
		return 0
	}
	return slices.Sorted(slices.Values(l))[1]
}

func (l lags) areLate() bool { return l.typical() >= lateAfter }

// slower returns the greater of each two.
func (l lags) slower(other lags) lags {
	most := slices.Clone(l)
	for i := range min(len(l), len(other)) {
		most[i] = max(l[i], other[i])
	}
	return most
}

// delivery is how the events came on one stream.
type delivery struct {
	*ear
	lags lags
	held bool // an event did not come while the stream was open
}

// stream looks at how events arrive: as they are, and compressed if the way
// likes to compress. Each is published when the one before it has come, so that
// what holds events back holds each of them. The stream ends by itself behind
// the last, and whoever buffers gives out then what it has. It says whether
// there are streams at all.
func (x *exam) stream(ctx context.Context) bool {
	query := func() url.Values {
		return url.Values{"last_event_id": {x.cursor}, "event": {probeType}, "limit": {strconv.Itoa(probes)}}
	}
	plain := &delivery{ear: x.listen(ctx, query(), nil)}
	defer plain.close()
	packed := &delivery{ear: x.listen(ctx, query(), http.Header{"Accept-Encoding": {browserEncodings}})}
	defer packed.close()

	opening := time.Now().Add(patience)
	opened := func(d *delivery) bool {
		return d.await(ctx, opening, func() bool { return d.resp != nil && (d.bytes > 0 || !isEventStream(d.resp)) })
	}
	plainOpens, packedOpens := opened(plain), opened(packed)
	published := 0
	if !x.opts.ReadOnly {
		published = x.publishProbes(ctx, plain, packed)
	}
	if published == probes { // both end by themselves now
		end := time.Now().Add(patience)
		plain.await(ctx, end, func() bool { return false })
		packed.await(ctx, end, func() bool { return false })
	}
	plain.close()
	packed.close()
	if ctx.Err() != nil {
		return false
	}

	if plain.resp == nil && !errors.Is(plain.err, context.Canceled) { // else we gave up waiting for it
		x.add(Finding{
			Check: checkStream, Level: Fault, What: "a stream does not open", How: reason(plain.err),
			Change: "look at the log of what answers in front of the server",
		})
		return false
	}
	if plain.resp != nil && !x.head(plain.resp, packed.resp) {
		return false
	}
	if published == probes {
		x.judgeProbes(plain, packed)
		x.resume(ctx, plain.events)
	} else {
		x.judgeOpening(plainOpens, packedOpens, packed)
		x.resume(ctx, nil)
	}
	if x.made && published > 0 {
		x.forget(ctx)
	}
	return true
}

// publishProbes publishes one event after the other, and returns how many.
func (x *exam) publishProbes(ctx context.Context, streams ...*delivery) int {
	for n := range probes {
		began := time.Now()
		resp, err := x.publish(ctx, n)
		answered := time.Now()
		if err != nil || resp.StatusCode != http.StatusOK {
			f := Finding{
				Check: checkBuffering, Level: Unseen, What: "nothing can be published to " + x.opts.Topic + ", so that only the opening of a stream is looked at",
				Change: "give a --topic to which the token may publish",
			}
			if err != nil {
				f.How = reason(err)
			} else {
				f.How = refusal(resp.Response, resp.body)
			}
			x.add(f)
			return n
		}
		for _, d := range streams {
			if d.held {
				continue
			}
			var at time.Time
			came := d.await(ctx, answered.Add(patience), func() bool {
				switch {
				case !d.isReadable():
					at = d.lastAt
					return at.After(began)
				case len(d.events) > n:
					at = d.events[n].at
					return true
				}
				return false
			})
			if came {
				d.lags = append(d.lags, at.Sub(answered))
			} else {
				d.held = true
			}
		}
	}
	return probes
}

// publish publishes an event, and once more if the proxy failed to reach the
// server: it may have picked a connection that the server was about to close.
// The id makes one event of the two.
func (x *exam) publish(ctx context.Context, n int) (*answer, error) {
	query := url.Values{"event": {probeType}, "id": {fmt.Sprintf("%s-%d", x.name, n)}}
	data := fmt.Sprintf("probe %d of %d", n+1, probes)
	resp, err := x.do(x.events(ctx, http.MethodPost, query, data))
	if err != nil || isGateway(resp.StatusCode) {
		resp, err = x.do(x.events(ctx, http.MethodPost, query, data))
	}
	return resp, err
}

// judgeProbes tells buffering and compression from how the events came. Who
// waits for more to send delays now the one stream and now the other.
func (x *exam) judgeProbes(plain, packed *delivery) {
	came := plain.lags
	if packed.encoding() == "" {
		came = came.slower(packed.lags)
	}
	f := Finding{
		Check: checkBuffering, Level: Fault, Change: "let the proxy pass on at once what it gets", Config: x.config(checkBuffering),
	}
	switch {
	case plain.held && len(plain.events) == 0:
		f.What = "events do not come through"
		f.How = fmt.Sprintf("%d events were published, and none came", probes)
	case plain.held:
		f.What = "events are held back: something between buffers answers"
		f.How = fmt.Sprintf("an event that was published did not come within %v; %d came together when the stream ended", patience, len(plain.events)-len(plain.lags))
	case came.areLate():
		f.What = "events are delayed: something between waits for more to send"
		f.How = fmt.Sprintf("each of %d events came %v or more after its publisher's answer", probes-1, round(came.typical()))
	default:
		f = Finding{Check: checkBuffering, Level: OK, What: "events arrive at once"}
		f.How = fmt.Sprintf("%d events came one by one, %v after their publisher's answer", probes, round(max(came.typical(), 0)))
	}
	x.held = plain.held
	x.add(f)
	late := packed.held || packed.encoding() != "" && packed.lags.areLate()
	x.compression(packed, late && f.Level == OK)
}

// judgeOpening tells what can be told without events: the head and a first
// line leave the server at once.
func (x *exam) judgeOpening(plainOpens, packedOpens bool, packed *delivery) {
	if x.held = !plainOpens; x.held {
		x.add(Finding{
			Check: checkBuffering, Level: Fault, What: "events are held back: something between buffers answers",
			How:    fmt.Sprintf("the head of a stream and its first line leave the server at once, and did not come within %v", patience),
			Change: "let the proxy pass on at once what it gets", Config: x.config(checkBuffering),
		})
	} else if x.opts.ReadOnly {
		x.add(Finding{Check: checkBuffering, Level: OK, What: "streams open at once; whether each event comes at once was not tried"})
	}
	x.compression(packed, plainOpens && !packedOpens)
}

// compression judges the stream for which compression was accepted. holdsBack
// says that it is late, and would not be without.
func (x *exam) compression(packed *delivery, holdsBack bool) {
	if !packed.isStream() {
		x.add(Finding{Check: checkCompression, Level: Unseen, What: "the stream that accepts compression did not open", How: packed.failure()})
		return
	}
	encoding := packed.encoding()
	f := Finding{Check: checkCompression, Level: OK, What: "streams are not compressed, though it was offered"}
	switch {
	case holdsBack:
		f.Level = Fault
		f.What = "compression holds events back"
		f.How = "events come in time, but not to those who accept compression, as browsers do"
		if encoding != "" {
			f.How += "; Content-Encoding is " + encoding
		}
	case encoding != "":
		f.Level = Advice
		f.What = "streams are compressed on the way, which keeps a compressor in memory for each, against no-transform"
		f.How = "Content-Encoding is " + encoding
	}
	if f.Level != OK {
		f.Change = "leave text/event-stream out of what is compressed"
		f.Config = x.config(checkCompression)
	}
	x.add(f)
}

// forget deletes the topic that was made for this examination, if the token
// may; else retention does so.
func (x *exam) forget(ctx context.Context) {
	x.do(x.request(ctx, http.MethodDelete, "/v1/topics/"+x.opts.Topic, nil, ""))
}
