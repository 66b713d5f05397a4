package pebblelog_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/pebblelog"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	l, err := pebblelog.Open(filepath.Join(dir, "log"), &pebblelog.Options{
		Rules: []tailrace.Rule{{Pattern: "presence/**", Policy: tailrace.Policy{Durability: tailrace.Memory}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	ctx := context.Background()
	if _, err := l.Append(ctx, []tailrace.Event{{Topic: "orders", Data: []byte("one")}}); err != nil {
		log.Fatal(err)
	}
	page, err := l.Read(ctx, tailrace.Query{Select: tailrace.Selector{Topics: []string{"orders"}}})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range page.Events {
		fmt.Printf("%s: %s\n", e.Topic, e.Data)
	}
	// Output: orders: one
}

func ExampleInUseError() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := pebblelog.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	_, err = pebblelog.Open(dir, nil)
	var inUse *pebblelog.InUseError
	if errors.As(err, &inUse) {
		fmt.Println(inUse.PID == os.Getpid())
	}
	// Output: true
}
