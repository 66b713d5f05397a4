package sse

import (
	"io"
	"iter"
)

const (
	dataSlabSize = 8 << 10 // bytes; what one kept small event can hold on to
	smallData    = 1 << 10 // bytes; larger data gets an allocation of its own
)

// Events yields the events that r delivers; it is NewDecoder(r, nil).Events().
func Events(r io.Reader) iter.Seq2[Event, error] { return NewDecoder(r, nil).Events() }

// Events yields events until the stream ends. Data may be kept and changed;
// small events share memory, so one kept event can hold on to 8 KiB. An error
// other than io.EOF comes once, last, with a zero Event. The reader stays open:
// who opened it closes it. After a break, Events or Decode go on with the next
// event.
func (d *Decoder) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			var ev Event
			if err := d.Decode(&ev); err != nil {
				if err != io.EOF {
					yield(Event{}, err)
				}
				return
			}
			ev.Data = d.own(ev.Data)
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// own copies data. Small data is cut from a slab with its capacity clipped.
func (d *Decoder) own(data []byte) []byte {
	if len(data) > smallData {
		return append([]byte(nil), data...)
	}
	if cap(d.slab)-len(d.slab) < len(data) {
		d.slab = make([]byte, 0, dataSlabSize)
	}
	start := len(d.slab)
	d.slab = append(d.slab, data...)
	return d.slab[start:len(d.slab):len(d.slab)]
}
