package docs_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tailrace/tailrace"
)

// The lines between the marks are those of the README.
func Example_hub() {
	// README
	hub, err := tailrace.New(nil) // keeps events in memory; a log of package pebblelog keeps them on disk
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /events", hub.PublishHandler()) // curl -d hello 'localhost:8080/events?topic=demo'
	mux.Handle("GET /events", hub)                   // curl -N 'localhost:8080/events?topic=demo'

	_, err = hub.Publish(context.Background(), tailrace.Event{Topic: "demo", Data: []byte("from inside")})
	if err != nil {
		log.Fatal(err)
	}
	// README
	server := httptest.NewServer(mux)
	defer server.Close()
	defer hub.Shutdown(context.Background())

	published, err := http.Post(server.URL+"/events?topic=demo", "text/plain", strings.NewReader("hello"))
	if err != nil {
		log.Fatal(err)
	}
	published.Body.Close()
	stream, err := http.Get(server.URL + "/events?topic=demo&from=start&limit=2")
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Body.Close()
	text, err := io.ReadAll(stream.Body)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "data: ") {
			fmt.Print(line)
		}
	}
	// Output:
	// data: from inside
	// data: hello
}
