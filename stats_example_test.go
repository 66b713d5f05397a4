package tailrace_test

import (
	"context"
	"fmt"

	"github.com/tailrace/tailrace"
)

func ExampleHub_Stats() {
	hub, err := tailrace.New(&tailrace.Options{DrainWindow: -1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer hub.Shutdown(context.Background())
	for _, data := range []string{"one", "two", "three"} {
		if _, err := hub.Publish(context.Background(), tailrace.Event{Topic: "demo", Data: []byte(data)}); err != nil {
			fmt.Println(err)
		}
	}
	s := hub.Stats()
	fmt.Println(s.Published, "events of", s.PublishedBytes, "bytes,", s.Delivered, "delivered")
	fmt.Println(hub.Census().Streams["portable"]["HTTP/2.0"], "streams over HTTP/2")
	// Output:
	// 3 events of 11 bytes, 0 delivered
	// 0 streams over HTTP/2
}
