package problem

import (
	"strings"
	"testing"
)

func TestUnknownParameterNamesTheNearest(t *testing.T) {
	p := UnknownName("parameter", "evnt", []string{"event"})
	if p.Name != "unknown-parameter" || p.Detail != `there is no parameter "evnt" here; did you mean event?` {
		t.Errorf("got %s: %s", p.Name, p.Detail)
	}
	p = UnknownName("parameter", "colour", []string{"event"})
	if strings.Contains(p.Detail, "mean") {
		t.Errorf("an unlike name is suggested: %s", p.Detail)
	}
}
