package tailrace

import (
	"encoding/json"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// Gap is the data of a [TypeGap] event: history after the cursor that the
// subscriber had is not complete.
type Gap struct {
	Reason    Reason   `json:"reason"`
	Requested string   `json:"requested,omitempty"`
	Oldest    string   `json:"oldest,omitempty"` // nothing of the selection can be read at or below it
	Topics    []string `json:"topics,omitempty"` // at most 20; absent: any of the selection
}

// maxGapTopics bounds the names in a gap event.
const maxGapTopics = 20

// NewGap makes the data of a gap event from a log's answer.
func NewGap(r *Reset) Gap {
	g := Gap{Reason: r.Reason, Requested: r.Requested, Topics: r.Topics}
	if !r.Oldest.IsZero() {
		g.Oldest = r.Oldest.String()
	}
	if len(g.Topics) > maxGapTopics {
		g.Topics = nil
	}
	return g
}

// controlFrame encodes an event of the hub itself: one line of JSON, and an
// id only where the subscriber may resume there.
func controlFrame(typ string, data any, id string) chunk {
	text, err := json.Marshal(data)
	if err != nil { // no type that is passed here can fail
		text = []byte("{}")
	}
	e := sse.Event{ID: id, Type: ReservedTypePrefix + typ, Data: text}
	b, _ := e.AppendText(newChunk(len(text) + 64))
	return sealChunk(b)
}

// Data of the other control events.
type (
	helloData struct {
		Wire      int      `json:"wire"`
		Conn      string   `json:"conn"`
		Epoch     string   `json:"epoch"`
		Verdict   string   `json:"verdict"`
		Heartbeat int64    `json:"heartbeat"` // milliseconds
		Topics    []string `json:"topics"`
	}
	snapshotData struct {
		State string `json:"state"`
		Count *int   `json:"count,omitempty"`
	}
	endData struct {
		Topics []string `json:"topics"`
	}
	topicsData struct {
		Added   []string `json:"added,omitempty"`
		Removed []string `json:"removed,omitempty"`
		Reason  string   `json:"reason,omitempty"`
		Topics  []string `json:"topics"`
	}
	closeData struct {
		Retry  int64  `json:"retry"` // milliseconds
		Reason string `json:"reason"`
	}
	emptyData struct{}
)

// retryLine is a reconnection time between blocks. No blank line follows: some
// clients take one for an empty event.
func retryLine(d time.Duration) []byte {
	b, _ := sse.AppendRetry(nil, d)
	return b
}

// heartbeatLine is a comment without a blank line, for the same reason.
var heartbeatLine = newText([]byte(":\n"))
