package auth

import (
	"slices"
	"strings"

	"github.com/tailrace/tailrace"
)

// Action is what a request does.
type Action string

// The actions. Each but Open needs a grant of its own.
const (
	Open      Action = "" // needs no right
	Subscribe Action = "subscribe"
	Publish   Action = "publish"
	Presence  Action = "presence"
	Admin     Action = "admin"
	Gateway   Action = "gateway" // its topics are names of models
)

// Grants are rights: selectors of topics for each action, and models of the
// gateway. They only ever add. The slices are not changed once set.
type Grants struct {
	Publish   []string `config:"publish" help:"topics and patterns to publish to" json:"publish,omitempty"`
	Subscribe []string `config:"subscribe" help:"topics and patterns to read" json:"subscribe,omitempty"`
	Presence  []string `config:"presence" help:"topics and patterns whose presence may be seen" json:"presence,omitempty"`
	Admin     []string `config:"admin" help:"topics and patterns to administer; ** is the server too" json:"admin,omitempty"`
	Gateway   []string `config:"gateway" help:"models of the gateway; * is any" json:"gateway,omitempty"`
}

// lists returns the selectors by action, in the order of the struct.
func (g *Grants) lists() []grantList {
	return []grantList{
		{Publish, &g.Publish}, {Subscribe, &g.Subscribe}, {Presence, &g.Presence}, {Admin, &g.Admin}, {Gateway, &g.Gateway},
	}
}

type grantList struct {
	action Action
	list   *[]string
}

// IsZero reports whether g grants nothing.
func (g Grants) IsZero() bool {
	return len(g.Publish)+len(g.Subscribe)+len(g.Presence)+len(g.Admin)+len(g.Gateway) == 0
}

// Missing returns those of topics, names and patterns, on which g does not
// grant the action: none means that all may be had. An action on no topic at
// all is one on the server, which needs the grant on **.
//
// A pattern needs one grant that covers it whole. $presence/t needs presence
// on t, and every other name of the system admin: on the name itself, or on **.
func (g Grants) Missing(do Action, topics []string) []string {
	switch {
	case do == Open:
		return nil
	case len(topics) == 0:
		topics = []string{"**"}
	}
	var missing []string
	for _, t := range topics {
		if g.grant(do, t) == "" {
			missing = append(missing, t)
		}
	}
	return missing
}

// grant returns the selector of g that grants the action on a topic or
// pattern, "" if there is none.
func (g *Grants) grant(do Action, topic string) string {
	if do == Gateway {
		if slices.Contains(g.Gateway, topic) {
			return topic
		}
		return first(g.Gateway, func(model string) bool { return model == "*" })
	}
	if rest, ok := strings.CutPrefix(topic, "$presence/"); ok && (do == Subscribe || do == Presence) {
		do, topic = Presence, rest
	} else if strings.HasPrefix(topic, "$") && do == Subscribe {
		do = Admin
	}
	if do == Admin && strings.HasPrefix(topic, "$") && slices.Contains(g.Admin, "**") {
		return "**" // the right to everything would be odd without this
	}
	for _, l := range g.lists() {
		if l.action == do {
			return first(*l.list, func(selector string) bool { return tailrace.Covers(selector, topic) })
		}
	}
	return ""
}

func first(list []string, match func(string) bool) string {
	if i := slices.IndexFunc(list, match); i >= 0 {
		return list[i]
	}
	return ""
}

// join returns the rights of both.
func (g Grants) join(h Grants) Grants {
	more := h.lists()
	for i, l := range g.lists() {
		*l.list = slices.Concat(*l.list, *more[i].list)
	}
	return g
}

// checkSelector reports what is no topic and no pattern. The error is a
// *tailrace.InvalidError.
func checkSelector(s string) error {
	if tailrace.IsPattern(s) {
		return tailrace.CheckPattern(s)
	}
	return tailrace.CheckTopic(s)
}
