package auth

import "strings"

// covers reports whether every name that want matches is matched by grant.
// Both are valid names or patterns; a name is the pattern that matches itself
// only.
func covers(grant, want string) bool {
	if strings.HasPrefix(want, "$") && !strings.HasPrefix(grant, "$") {
		return false
	}
	for {
		gseg, grest, gmore := strings.Cut(grant, "/")
		if gseg == "**" {
			return true // valid patterns have it last; want has at least one segment here
		}
		wseg, wrest, wmore := strings.Cut(want, "/")
		if wseg == "**" || gseg != "*" && gseg != wseg || gmore != wmore {
			return false
		}
		if !gmore {
			return true
		}
		grant, want = grest, wrest
	}
}
