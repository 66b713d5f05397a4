package tailrace

import (
	"net/http"

	"github.com/tailrace/tailrace/internal/problem"
)

// ServePage answers with a page of JSON.
func (h *Hub) ServePage(w http.ResponseWriter, r *http.Request, sub *Subscription) {
	problem.Write(w, problem.New("not-supported", "pages are not there yet"))
}
