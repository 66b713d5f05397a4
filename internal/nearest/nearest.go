// Package nearest finds the name that a misspelt one was meant to be, so that a
// typing error is answered with the cure.
package nearest

// Name returns the known name with the fewest edits from name, or "" if
// that is another word altogether: a third of its letters are wrong and more
// than one is.
func Name(name string, known []string) string {
	const longest = 64 // bytes; a longer name is no typing error
	if len(name) > longest {
		return ""
	}
	best, found := len(name)+1, ""
	for _, k := range known {
		if d := edits(name, k); d < best {
			best, found = d, k
		}
	}
	if best > max(1, len(found)/3) {
		return ""
	}
	return found
}

// edits counts the insertions, deletions, replacements and swaps of neighbours
// that turn a into b, in bytes (optimal string alignment).
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if lower(a[i-1]) == lower(b[j-1]) {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
