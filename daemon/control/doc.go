// Package control lets the commands of this machine speak with the running daemon:
// HTTP and JSON over a Unix socket in the spool's directory.
//
// Whoever may open the socket may command the daemon. It has mode 0600 in a
// directory of mode 0700: root and the daemon's user may. The socket of a daemon
// that was killed stays behind; nobody answers there, and the next one replaces it.
//
//	GET  /v1/status            Status
//	POST /v1/legs/retry        Retry -> Changed
//	POST /v1/legs/park         Park -> Changed
//	POST /v1/models/activate   Activate -> ModelChange
//	POST /v1/models/rollback   {} -> ModelChange
//	POST /v1/models/relearn    {} -> {}
//
// An error is answered with a status of 400 or above and {"error": "..."}.
package control

import (
	"context"
	"time"

	"ichwatch/daemon/spool"
)

// Daemon is what is commanded.
type Daemon interface {
	Status(ctx context.Context) Status
	// Retry makes legs due at once, and wakes the destinations that were selected.
	Retry(ctx context.Context, r Retry) (Changed, error)
	// Park keeps legs back until Retry.
	Park(ctx context.Context, p Park) (Changed, error)
	// ActivateModels brings other models into service, or changes nothing.
	ActivateModels(ctx context.Context, a Activate) (ModelChange, error)
	// RollBackModels brings those before back.
	RollBackModels(ctx context.Context) (ModelChange, error)
	// Relearn forgets what is usual of studies.
	Relearn(ctx context.Context) error
}

// Status is what only the running daemon knows.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Boot    uint64    `json:"boot"`
	Started time.Time `json:"started"`
	// Parts are the daemon's own checks, those of readyz: "ok" or what is wrong.
	Parts        map[string]string `json:"parts"`
	Model        Model             `json:"model"`
	Broker       Broker            `json:"broker"`
	Destinations []Destination     `json:"destinations"`
	Recovery     Recovery          `json:"recovery"`
}

// Model is what looks at slices.
type Model struct {
	Names    []string `json:"names"` // with the beginnings of their hashes
	Provider string   `json:"provider,omitempty"`
	Fault    string   `json:"fault,omitempty"` // why none is in service though one is wanted

	Folders        []string   `json:"folders,omitempty"`
	OperatingPoint string     `json:"operating_point,omitempty"`
	Since          time.Time  `json:"since,omitzero"` // in service
	Providers      []Provider `json:"providers,omitempty"`
	Alarm          string     `json:"alarm,omitempty"` // of the canary
	Drift          []string   `json:"drift,omitempty"` // alarms
}

// Provider is one way to compute a model, the preferred first.
type Provider struct {
	Model  string    `json:"model"`
	Name   string    `json:"name"`
	State  string    `json:"state"` // serving, standby, proving, waiting, refused, taken out
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Activate is the body of /v1/models/activate.
type Activate struct {
	Models         []string `json:"models"` // folders
	OperatingPoint string   `json:"operating_point,omitempty"`
	Force          bool     `json:"force,omitempty"` // also models that do not know phantoms
}

// ModelChange is what an exchange of models came to.
type ModelChange struct {
	Active   []string `json:"active"`   // with the beginnings of their hashes
	Previous []string `json:"previous"` // likewise
	Canary   string   `json:"canary,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Broker is where alerts go.
type Broker struct {
	Address   string    `json:"address"` // that is connected or in turn
	Nodes     int       `json:"nodes"`   // addresses that are configured
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"` // connected or not; absent before the first connection
}

// Destination is how the daemon gets on with one.
type Destination struct {
	Name        string    `json:"name"`
	Address     string    `json:"address"`
	Failing     bool      `json:"failing"`
	Since       time.Time `json:"since,omitzero"` // it fails
	Reason      string    `json:"reason,omitempty"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	LastDone    time.Time `json:"last_done,omitzero"` // since the daemon started
}

// Recovery is what the start found, and how long the disk takes to make data durable.
type Recovery struct {
	Instances     int     `json:"instances"`
	Adopted       int     `json:"adopted"`
	Missing       int     `json:"missing"`
	Unread        int     `json:"unread"`
	Quarantined   int     `json:"quarantined"`
	LedgerRebuilt bool    `json:"ledger_rebuilt"`
	Milliseconds  float64 `json:"milliseconds"`
	FlushMS       float64 `json:"flush_ms"` // 4 KiB; 0: not measured
}

// Retry is the body of /v1/legs/retry.
type Retry struct {
	Select spool.LegSelection `json:"select"`
}

// Park is the body of /v1/legs/park.
type Park struct {
	Select spool.LegSelection `json:"select"`
	Reason string             `json:"reason"` // for people, without identity
}

// Changed is how many legs were changed, by destination.
type Changed map[string]int
