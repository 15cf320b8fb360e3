package alerts

import (
	"context"
	"errors"
	"time"
)

// Errors of a [Book]. None of them is a failure of the daemon.
var (
	ErrUnknownAlert        = errors.New("no such alert")
	ErrAlreadyAcknowledged = errors.New("the alert is already acknowledged")
	ErrRetracted           = errors.New("the alert was withdrawn")
)

// OpenAlert is an alert that waits for a person.
type OpenAlert struct {
	AlertID string
	Level   int       // the level that was raised last; 0: only the first notice
	Since   time.Time // when the broker confirmed the message that raised it
}

// Book keeps the alerts and what became of them. It survives a power cut.
type Book interface {
	// Acknowledge records a person's answer ([EventAcknowledge]); nothing
	// escalates afterwards. The error is ErrUnknownAlert, ErrAlreadyAcknowledged
	// or ErrRetracted where that is what the answer met; the first two people
	// to answer are told apart by the second. It must be durable on return.
	Acknowledge(ctx context.Context, a Acknowledgement) error

	// OpenAlerts returns the alerts in StateDelivered or StateEscalated, oldest
	// Since first. An alert whose message of its present level is still in the
	// outbox is not among them: its clock has not started.
	OpenAlerts(ctx context.Context) ([]OpenAlert, error)

	// Escalate records level ([EventEscalate]) and adds a message of TypeEscalate
	// to the outbox, the last message of the alert with the next Seq, in one
	// transaction. Where a person was faster the error is
	// ErrAlreadyAcknowledged, or ErrRetracted, and nothing changes.
	Escalate(ctx context.Context, alertID string, level int, now time.Time) error
}
