package presence

import (
	"encoding/json"
	"strings"
	"time"
)

// Mode says what is told about who is in a topic.
type Mode string

const (
	Off     Mode = "off"     // nothing; so is ""
	Count   Mode = "count"   // how many are there
	Members Mode = "members" // and who
)

// DefaultGrace is how long a principal without a stream is still there: longer
// than a reload of the page, a change of network and the usual retry take.
const DefaultGrace = 10 * time.Second

// Rule is what the policy of a topic says about presence.
type Rule struct {
	Mode  Mode
	Grace time.Duration // default 10 s; negative is none
}

func (r Rule) withDefaults() Rule {
	switch {
	case r.Grace == 0:
		r.Grace = DefaultGrace
	case r.Grace < 0:
		r.Grace = 0
	}
	if r.Mode != Count && r.Mode != Members {
		r.Mode = Off
	}
	return r
}

// MaxPayload is the most that is shown of a principal, in bytes of JSON. A
// larger payload is left out.
const MaxPayload = 1024

// Stream is one that opens.
type Stream struct {
	ID        string          // the connection's
	Principal string          // "" or anon:… is nobody in particular: counted, not listed
	Payload   json.RawMessage // what the principal's token has shown of it; may be nil
	Topics    []string        // that it names exactly; kept, and never changed
}

// isAnonymous reports whether a principal has no name of its own.
func isAnonymous(principal string) bool {
	return principal == "" || strings.HasPrefix(principal, "anon:")
}
