package auth

import (
	"net/http"

	"github.com/tailrace/tailrace/internal/problem"
)

// Explanation says what would be decided, and by which checks.
type Explanation struct {
	Allow     bool     `json:"allow"`
	Status    int      `json:"status"` // of the answer; 200 if it is allowed
	Type      string   `json:"type,omitempty"`
	Steps     []Step   `json:"steps"` // in the order in which they are made
	Principal string   `json:"principal,omitempty"`
	Grants    *Grants  `json:"grants,omitempty"`
	Matched   []string `json:"matched,omitempty"` // the selectors that grant it, one for each topic
	Filter    []string `json:"filter,omitempty"`
}

// Explain judges a request by the credential that it presents, as Decide
// would. An invalid one is explained, not refused. No ticket is spent.
func (a *Authenticator) Explain(r *http.Request, do Action, topics []string) *Explanation {
	return a.explain(r, nil, do, topics)
}

// ExplainToken judges another's API key or token, as if r had presented it.
func (a *Authenticator) ExplainToken(r *http.Request, token string, do Action, topics []string) *Explanation {
	return a.explain(r, &credential{InHeader, token}, do, topics)
}

func (a *Authenticator) explain(r *http.Request, given *credential, do Action, topics []string) *Explanation {
	t := &trail{steps: []Step{}}
	p, refusal := a.decide(t, r, given, do, topics)
	e := &Explanation{Allow: refusal == nil, Status: http.StatusOK, Steps: t.steps}
	if refusal != nil {
		e.Status, e.Type = refusal.StatusCode(), problem.TypePrefix+refusal.Name
	}
	if p == nil {
		return e
	}
	e.Principal, e.Grants, e.Filter = p.Name, &p.Grants, p.Filters
	if do == Open {
		return e
	}
	for _, topic := range topics {
		switch selector := p.Grants.grant(do, topic); {
		case selector != "":
			e.Matched = append(e.Matched, selector)
		case do == Subscribe && a.opts.Public(topic):
			e.Matched = append(e.Matched, "policy: public")
		}
	}
	return e
}
