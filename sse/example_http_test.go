package sse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// A handler that sends events as they come.
func ExampleAccept() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.Accept(w, r, &sse.AcceptOptions{Retry: 2 * time.Second})
		if err != nil {
			return // the response has been written
		}
		defer stream.Close()
		for i, word := range strings.Fields("one way only") {
			if err := stream.Send(&sse.Event{ID: strconv.Itoa(i), Data: []byte(word)}); err != nil {
				return // the client has gone
			}
		}
	}

	srv := httptest.NewServer(http.HandlerFunc(handler))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s", body)
	// Output:
	// retry: 2000
	// id: 0
	// data: one
	//
	// id: 1
	// data: way
	//
	// id: 2
	// data: only
}

// One event for all who listen: it is encoded once, and its frame written to each stream.
func ExampleStream_Write() {
	frame, err := (&sse.Event{Type: "price", Data: []byte("42")}).AppendText(nil)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		rec := httptest.NewRecorder()
		stream, err := sse.Accept(rec, httptest.NewRequest("GET", "/prices", nil), nil)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := stream.Write(frame); err != nil {
			log.Fatal(err)
		}
		stream.Close()
		fmt.Printf("%q\n", rec.Body)
	}
	// Output:
	// "event: price\ndata: 42\n\n"
	// "event: price\ndata: 42\n\n"
}

// count yields the numbers after the one that the client has seen, up to three.
func count(r *http.Request) iter.Seq2[sse.Event, error] {
	last, _ := strconv.Atoi(sse.LastEventID(r))
	if last >= 3 {
		return nil // 204: there is no more, and no need to reconnect
	}
	return func(yield func(sse.Event, error) bool) {
		for n := last + 1; n <= 3; n++ {
			ev := sse.Event{ID: strconv.Itoa(n), Data: fmt.Appendf(nil, "number %d", n)}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// An iterator is a handler. This one resumes where its client left off.
func ExampleHandlerFunc() {
	mux := http.NewServeMux()
	mux.Handle("GET /count", sse.HandlerFunc(count))

	rec := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/count", nil)
	req.Header.Set("Last-Event-ID", "1")
	mux.ServeHTTP(rec, req)
	fmt.Print(rec.Body)
	// Output:
	// id: 2
	// data: number 2
	//
	// id: 3
	// data: number 3
}

func ExampleHandler() {
	h := sse.Handler(count, &sse.AcceptOptions{Retry: 500 * time.Millisecond, Heartbeat: -1})

	rec := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/count?last_event_id=2", nil)
	h.ServeHTTP(rec, req)
	fmt.Print(rec.Body)
	// Output:
	// retry: 500
	// id: 3
	// data: number 3
}

// A client reads on over the end of a response. Here it does so until the server says 204.
func ExampleClient() {
	srv := httptest.NewServer(sse.HandlerFunc(count))
	defer srv.Close()

	client := &sse.Client{
		Backoff: sse.Backoff{Min: 10 * time.Millisecond},
		OnRetry: func(err error, _ time.Duration) { fmt.Println("again after", err) },
	}
	req, err := http.NewRequestWithContext(context.Background(), "GET", srv.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for ev, err := range conn.Events() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(ev.Data))
	}
	// Output:
	// number 1
	// number 2
	// number 3
	// again after EOF
}

// What refused a stream for good is in the error.
func ExampleResponseError() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no such stream", http.StatusNotFound)
	}))
	defer srv.Close()

	req, err := http.NewRequestWithContext(context.Background(), "GET", srv.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = new(sse.Client).Do(req)
	fmt.Println(err)
	var refused *sse.ResponseError
	if errors.As(err, &refused) {
		fmt.Printf("%d %q\n", refused.StatusCode, refused.Body)
	}
	// Output:
	// sse: unexpected response: 404 Not Found
	// 404 "no such stream\n"
}

// A request whose body costs money is sent once, and its stream ends with the response.
func ExampleConn() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream, err := sse.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer stream.Close()
		for _, token := range []string{`{"text":"Hel"}`, `{"text":"lo"}`, "[DONE]"} {
			if stream.Send(&sse.Event{Data: []byte(token)}) != nil {
				return
			}
		}
	}))
	defer srv.Close()

	req, err := http.NewRequestWithContext(context.Background(), "POST", srv.URL, strings.NewReader(`{"stream":true}`))
	if err != nil {
		log.Fatal(err)
	}
	conn, err := new(sse.Client).Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	var ev sse.Event
	for conn.Decode(&ev) == nil {
		fmt.Printf("%s\n", ev.Data)
	}
	fmt.Println("error:", conn.Err())
	// Output:
	// {"text":"Hel"}
	// {"text":"lo"}
	// [DONE]
	// error: <nil>
}
