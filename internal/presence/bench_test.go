package presence

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkConnect is what a stream's arrival and end cost those who open
// streams, in a room of a hundred thousand and out of it.
func BenchmarkConnect(b *testing.B) {
	for mode, rule := range map[string]Rule{"off": {}, "count": {Mode: Count}, "members": {Mode: Members}} {
		b.Run(mode, func(b *testing.B) {
			t := newTable("", time.Hour, func(string) Rule { return rule })
			now := time.Now()
			for i := range 100_000 {
				t.open(now, Stream{ID: fmt.Sprint(i), Principal: fmt.Sprint("u", i), Topics: []string{"room"}})
			}
			tell(t, now)
			s := Stream{ID: "x", Principal: "x", Topics: []string{"room"}}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Minute)
				t.expire(now)
				t.open(now, s)
				tell(t, now)
				t.close(now, "x")
			}
		})
	}
}

// tell takes all events as if the log had stored them.
func tell(t *table, now time.Time) {
	for {
		list := t.take(now, batchSize)
		if len(list) == 0 {
			return
		}
		for i := range list {
			t.done(now, &list[i], stored)
		}
	}
}

// TestTableEndsEmpty holds that what has left leaves nothing behind.
func TestTableEndsEmpty(t *testing.T) {
	for _, mode := range []Mode{Off, Count, Members} {
		tb := newTable("", time.Hour, func(string) Rule { return Rule{Mode: mode} })
		now := time.Now()
		for round := range 3 {
			for i := range 100 {
				s := Stream{ID: fmt.Sprint(i), Principal: fmt.Sprint("u", i%10), Topics: []string{"a", fmt.Sprint("b", i)}}
				if i%3 == 0 {
					s.Principal = "anon:1"
				}
				tb.open(now, s)
			}
			if round > 0 {
				tell(tb, now)
			}
			for i := range 100 {
				tb.close(now, fmt.Sprint(i))
			}
			now = now.Add(DefaultGrace)
			tb.expire(now)
			tell(tb, now)
			now = now.Add(countEvery)
			tb.expire(now)
			tell(tb, now)
			now = now.Add(countEvery)
			tb.expire(now)
			if n := len(tb.topics) + len(tb.streams) + len(tb.timers) + len(tb.dirtyMembers) + len(tb.dirtyTopics) + len(tb.unsure); n != 0 {
				t.Errorf("%s, round %d: %d topics, %d streams, %d timers are left", mode, round, len(tb.topics), len(tb.streams), len(tb.timers))
			}
		}
	}
}
