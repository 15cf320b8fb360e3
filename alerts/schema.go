package alerts

import "embed"

// Schemas holds the JSON Schemas (draft 2020-12) of what travels, for receivers
// to validate against: schema/alert.v1.json, schema/outcome.v1.json,
// schema/ack.v1.json.
//
//go:embed schema/*.json
var Schemas embed.FS
