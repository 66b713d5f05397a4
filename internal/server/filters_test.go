package server

import (
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/filter"
	"github.com/tailrace/tailrace/sse"
)

func TestFilterOnTheWire(t *testing.T) {
	s := newServer(t, nil, nil)
	h := run(t, s)
	for _, data := range []string{`{"total":120,"who":"ada"}`, `{"total":7}`, "no JSON", `{"total":"300"}`, `{"total":101}`} {
		h.do("POST", "/v1/topics/orders", data).wantStatus(t, 200)
	}
	query := "from=start&limit=2&filter=" + url.QueryEscape("data.total > 100")
	resp, err := client.Do(h.request("GET", "/v1/topics/orders?"+query, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got []string
	for ev, err := range sse.Events(resp.Body) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(ev.Data))
	}
	if len(got) != 2 || got[0] != `{"total":120,"who":"ada"}` || got[1] != `{"total":101}` {
		t.Errorf("the stream has %q", got)
	}
	page := decode[page](t, h.do("GET", "/v1/topics/orders?format=json&"+query, "").wantStatus(t, 200))
	if page.data() != `{"total":120,"who":"ada"} {"total":101}` {
		t.Errorf("the page has %q", page.data())
	}

	for _, tt := range []struct{ filter, problem string }{
		{"data.total >", "invalid-filter"},
		{"1 + 1", "invalid-filter"},
		{`claims.tenant == "a"`, "invalid-filter"},
		{"now() > time", "invalid-filter"},
		{`text matches type`, "invalid-filter"},
	} {
		for _, path := range []string{"/v1/topics/orders?", "/v1/topics/orders?format=json&", "/v1/events?topic=orders&"} {
			h.do("GET", path+"filter="+url.QueryEscape(tt.filter), "").wantProblem(t, tt.problem)
		}
	}
	if n := s.filters.Stats(); n.Filters != 0 {
		t.Errorf("%+v after all have ended", n)
	}
}

// tooExpensive asks for a filter that a clock which runs fast has made look
// slow.
func tooExpensive(t *testing.T) answer {
	t.Helper()
	var now atomic.Int64
	s := newServer(t, nil, nil)
	s.filters = filter.NewSet(&filter.Options{Clock: func() time.Duration {
		return time.Duration(now.Add(int64(time.Millisecond)))
	}})
	h := run(t, s)
	h.fill("demo", 1100)
	const path = "/v1/topics/demo?format=json&limit=1000&filter=size%3E0"
	h.do("GET", path, "")
	h.do("GET", path, "")
	return h.do("GET", path, "")
}
