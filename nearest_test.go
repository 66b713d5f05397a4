package tailrace

import (
	"strings"
	"testing"
)

func TestNearestName(t *testing.T) {
	known := []string{"event", "id", "key", "remove", "retry", "if_head", "close", "last_event_id", "topic"}
	for _, tt := range []struct{ name, want string }{
		{"evnt", "event"},
		{"events", "event"},
		{"Event", "event"},
		{"evetn", "event"},
		{"ifhead", "if_head"},
		{"lastEventId", "last_event_id"},
		{"ids", "id"},
		{"kye", "key"},
		{"topics", "topic"},
		{"colour", ""},
		{"", ""},
		{"xyz", ""},
		{strings.Repeat("event", 100), ""},
	} {
		if got := nearest(tt.name, known); got != tt.want {
			t.Errorf("nearest(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := nearest("event", nil); got != "" {
		t.Errorf("nearest of nothing = %q", got)
	}
}

func TestUnknownParameterNamesTheNearest(t *testing.T) {
	p := unknownParameter("parameter", "evnt", []string{"event"})
	if p.Name != "unknown-parameter" || p.Detail != `there is no parameter "evnt" here; did you mean event?` {
		t.Errorf("got %s: %s", p.Name, p.Detail)
	}
	p = unknownParameter("parameter", "colour", []string{"event"})
	if strings.Contains(p.Detail, "mean") {
		t.Errorf("an unlike name is suggested: %s", p.Detail)
	}
}
