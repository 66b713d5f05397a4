package server

import (
	"encoding/json"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/tailrace/tailrace/internal/problem"
)

// checkMedia refuses media types whose body is no event's data.
func checkMedia(contentType string) error {
	if contentType == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil // what cannot be read says nothing: the body is text
	}
	if strings.HasPrefix(media, "multipart/") {
		return problem.New("unsupported-type", "%s cannot be an event; send the data itself", media)
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" && cs != "us-ascii" {
		return problem.New("unsupported-charset", "charset %q is not taken; send utf-8", cs)
	}
	return nil
}

// checkData refuses data that is no text, or not the JSON it is said to be.
func checkData(contentType string, data []byte) error {
	if !utf8.Valid(data) {
		return problem.New("not-text", "the body is not UTF-8").With("offset", invalidAt(data))
	}
	media, _, err := mime.ParseMediaType(contentType)
	isJSON := err == nil && (media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"))
	if isJSON && !json.Valid(data) {
		return problem.New("invalid-json", "the body is declared as %s and is not valid JSON", media)
	}
	return nil
}

// invalidAt returns the offset of the first byte that is no UTF-8.
func invalidAt(data []byte) int {
	at := 0
	for at < len(data) {
		r, n := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return at
}
