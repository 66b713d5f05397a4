package doctor

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// unknownID is an id that no topic has. Whoever goes on after it is told that
// there is a gap.
const unknownID = "doctor-unknown"

// resume finds out whether Last-Event-ID arrives: it wins over from=start, and
// so tells where a stream begins. events are those that came, in order; with
// less than three an unknown id has to do, at which the server tells of a gap.
func (x *exam) resume(ctx context.Context, events []heard) {
	f := Finding{
		Check: checkResume, Level: Fault, What: "Last-Event-ID does not reach the server: after a break the events in between are lost",
		Change: "let the proxy pass on the header Last-Event-ID; until then clients can write last_event_id= in the URL",
		Config: x.config(checkResume),
	}
	if len(events) < 3 {
		resp, err := x.resumePage(ctx)
		switch {
		case err != nil:
			f.Level, f.What, f.How, f.Change, f.Config = Unseen, "whether streams resume could not be seen", reason(err), "", nil
		case !bytes.Contains(resp.body, []byte(unknownID)):
			f.How = "an unknown id is answered with a gap, and was answered as if there were none"
		default:
			f = Finding{Check: checkResume, Level: OK, What: "Last-Event-ID reaches the server", How: "an unknown id is answered with a gap"}
		}
		x.add(f)
		return
	}
	after, want := events[0].id, events[1].id
	e := x.listen(ctx, url.Values{"from": {"start"}, "event": {probeType}, "limit": {"1"}}, http.Header{"Last-Event-Id": {after}})
	e.await(ctx, time.Now().Add(2*patience), func() bool { return len(e.events) > 0 })
	e.close()
	switch {
	case len(e.events) == 0:
		f.Level, f.What, f.Change, f.Config = Unseen, "whether streams resume could not be seen", "", nil
		f.How = "nothing came on the stream that was to resume"
	case e.events[0].id != want:
		f.How = fmt.Sprintf("a stream after %s went on at %s and not at %s", after, e.events[0].id, want)
	default:
		f = Finding{Check: checkResume, Level: OK, What: "a stream goes on after its Last-Event-ID"}
	}
	x.add(f)
}

// resumePage asks for a page after an unknown id: unlike a stream it is a
// complete answer, which nobody holds back.
func (x *exam) resumePage(ctx context.Context) (*answer, error) {
	req := x.events(ctx, http.MethodGet, url.Values{"format": {"json"}, "from": {"last:1"}}, "")
	req.Header.Set("Last-Event-Id", unknownID)
	return x.do(req)
}
