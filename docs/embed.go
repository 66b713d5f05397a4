// Package docs embeds the reference documents that the server also serves.
package docs

import _ "embed"

// OpenAPI is the description of the HTTP API, as YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
