package app_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tailrace/tailrace/examples/hello/app"
	"github.com/tailrace/tailrace/internal/chromium"
)

func TestPageResumesInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser, which waits 3 s before it reconnects")
	}
	start := func(addr string) (*http.Server, string) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: app.New(&app.Options{Interval: 50 * time.Millisecond})}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
		return srv, l.Addr().String()
	}
	srv, addr := start("127.0.0.1:0")
	page := chromium.Start(t).Open("http://" + addr)
	page.Wait(`list.children.length >= 3 && state.textContent == "connected" && dot.className == "open"`)

	srv.Close()
	page.Wait(`state.textContent == "reconnecting" && dot.className == "lost"`)
	var before int
	page.Eval(`list.children.length`, &before)

	start(addr)
	page.Wait(fmt.Sprintf(`list.children.length >= %d && state.textContent == "connected"`, before+3))
	var numbers []int
	page.Eval(`Array.from(list.children, li => li.value).reverse()`, &numbers)
	for i, n := range numbers {
		if n != numbers[0]+i {
			t.Fatalf("numbers %v: want no hole and none twice", numbers)
		}
	}
}
