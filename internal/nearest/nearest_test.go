package nearest

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
		if got := Name(tt.name, known); got != tt.want {
			t.Errorf("Name(%q) = %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := Name("event", nil); got != "" {
		t.Errorf("nearest of nothing = %q", got)
	}
}
