package tailrace_test

import (
	"context"
	"fmt"

	"github.com/tailrace/tailrace"
)

func ExampleNewMemoryLog() {
	log := tailrace.NewMemoryLog(&tailrace.MemoryOptions{
		MaxBytes: 16 << 20,
		Rules:    []tailrace.Rule{{Pattern: "prices/**", Policy: tailrace.Policy{MaxCount: 1000}}},
	})
	defer log.Close()
	ctx := context.Background()

	for _, price := range []string{"10.5", "10.6", "10.4"} {
		if _, err := log.Append(ctx, []tailrace.Event{{Topic: "prices/acme", Data: []byte(price)}}); err != nil {
			fmt.Println(err)
			return
		}
	}

	// Two events at first; the reader goes on from where that page ended.
	query := tailrace.Query{Select: tailrace.Selector{Patterns: []string{"prices/*"}}, Limit: 2}
	for {
		page, err := log.Read(ctx, query)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, e := range page.Events {
			fmt.Printf("%s %s\n", e.Topic, e.Data)
		}
		if !page.More {
			return
		}
		query.After, query.Told = page.Next, page.Told
	}
	// Output:
	// prices/acme 10.5
	// prices/acme 10.6
	// prices/acme 10.4
}
