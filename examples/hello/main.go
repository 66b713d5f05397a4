// Command hello serves the smallest live page.
//
//	go run ./examples/hello
package main

import (
	"flag"
	"log"
	"net"
	"net/http"

	"github.com/tailrace/tailrace/examples/hello/app"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.Parse()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("http://%s", l.Addr())
	log.Fatal(http.Serve(l, app.New(nil)))
}
