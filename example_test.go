package tailrace_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

func Example() {
	hub, err := tailrace.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Shutdown(context.Background())
	server := httptest.NewServer(hub)
	defer server.Close()

	resp, err := http.Get(server.URL + "?topic=prices/*")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()

	hub.Publish(context.Background(),
		tailrace.Event{Topic: "prices/tea", Type: "update", Data: []byte("3.20")},
		tailrace.Event{Topic: "stock/tea", Data: []byte("not selected")},
		tailrace.Event{Topic: "prices/milk", Type: "update", Data: []byte("1.10")},
	)
	n := 0
	for ev, err := range sse.Events(resp.Body) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", ev.Type, ev.Data)
		if n++; n == 2 {
			break
		}
	}
	resp.Body.Close()
	// Output:
	// update: 3.20
	// update: 1.10
}

func ExampleHub_Middleware() {
	hub, err := tailrace.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Shutdown(context.Background())
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "the application")
	})
	server := httptest.NewServer(hub.Middleware("/events")(app))
	defer server.Close()

	for _, path := range []string{"/", "/events?topic=a&limit=1&from=start"} {
		hub.Publish(context.Background(), tailrace.Event{Topic: "a", ID: "1", Data: []byte("hello")})
		resp, err := http.Get(server.URL + path)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(resp.Header.Get("Content-Type"))
		resp.Body.Close()
	}
	// Output:
	// text/plain; charset=utf-8
	// text/event-stream
}

func ExampleHub_Subscribe() {
	hub, err := tailrace.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Shutdown(context.Background())
	for _, text := range []string{"one", "two", "three"} {
		hub.Publish(context.Background(), tailrace.Event{Topic: "numbers", Data: []byte(text)})
	}
	all := tailrace.Selector{Topics: []string{"numbers"}}
	for ev, err := range hub.Subscribe(context.Background(), all, tailrace.Cursor{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(ev.Data))
		if string(ev.Data) == "three" {
			break
		}
	}
	// Output:
	// one
	// two
	// three
}

func ExampleHub_Send() {
	hub, err := tailrace.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Shutdown(context.Background())
	server := httptest.NewServer(hub)
	defer server.Close()
	resp, err := http.Get(server.URL + "?topic=a")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()

	id := resp.Header.Get("Tailrace-Connection")
	if err := hub.Send(context.Background(), id, &tailrace.Event{Type: "note", Data: []byte("for you alone")}); err != nil {
		log.Fatal(err)
	}
	for ev := range sse.Events(resp.Body) {
		fmt.Printf("%s: %s\n", ev.Type, ev.Data)
		break
	}
	// Output:
	// note: for you alone
}

func ExampleHub_PublishStream() {
	hub, err := tailrace.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer hub.Shutdown(context.Background())
	const upstream = "id: 1\ndata: first\n\nid: 2\ndata: second\n\n"
	upload, err := hub.PublishStream(context.Background(), "copy", strings.NewReader(upstream), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(upload.Accepted, upload.LastID)
	// Output:
	// 2 2
}
