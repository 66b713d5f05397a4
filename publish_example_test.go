package tailrace_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tailrace/tailrace"
)

// Publishers POST to one path, subscribers GET another.
func ExampleHub_PublishHandler() {
	hub, err := tailrace.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Shutdown(context.Background())
	mux := http.NewServeMux()
	mux.Handle("POST /publish", hub.PublishHandler())
	mux.Handle("GET /events", hub)
	server := httptest.NewServer(mux)
	defer server.Close()

	http.Post(server.URL+"/publish?topic=orders/eu&event=created&id=o-1", "application/json", strings.NewReader(`{"total":7}`))

	resp, err := http.Get(server.URL + "/events?topic=orders/eu&from=start&limit=1&format=json")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	page, _ := io.ReadAll(resp.Body)
	fmt.Println(strings.Contains(string(page), `"id":"o-1","event":"created"`))
	// Output: true
}

// An upload that broke off is sent again: what is there already is not stored
// twice, because the upload has a name.
func ExampleUploadOptions() {
	hub, err := tailrace.New(nil)
	if err != nil {
		panic(err)
	}
	defer hub.Shutdown(context.Background())

	for _, stream := range []string{
		"data: one\n\ndata: two\n\ndata: th",
		"data: one\n\ndata: two\n\ndata: three\n\n",
	} {
		up, err := hub.PublishStream(context.Background(), "copy", strings.NewReader(stream), &tailrace.UploadOptions{Name: "source-1"})
		fmt.Println(up.Accepted, "accepted,", up.Duplicates, "known, incomplete:", up.Incomplete, err)
	}
	// Output:
	// 2 accepted, 0 known, incomplete: true <nil>
	// 3 accepted, 2 known, incomplete: false <nil>
}
