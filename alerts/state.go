package alerts

// State is where an alert stands.
type State string

// The states of an alert. New, Delivered and Escalated want a person's
// attention; the others do not.
const (
	StateNew          State = "new"          // decided and in the outbox
	StateDelivered    State = "delivered"    // the broker has confirmed the first notice
	StateEscalated    State = "escalated"    // nobody answered in time; raised at least once
	StateAcknowledged State = "acknowledged" // a person has answered
	StateRetracted    State = "retracted"    // the complete study did not bear it out
)

// Event is something that happens to an alert.
type Event string

// The events of an alert's life. Confirm is the broker's, Acknowledge is a
// person's.
const (
	EventConfirm     Event = "confirm"     // the broker has confirmed a message of the alert
	EventUpdate      Event = "update"      // the finding changed and is still suspected
	EventEscalate    Event = "escalate"    // a level's delay passed without an answer
	EventAcknowledge Event = "acknowledge" // a person answered
	EventRetract     Event = "retract"     // withdrawn at study level
)

// transitions is the whole life of an alert. An event that is missing from a
// state's row is not allowed in that state.
//
// An alert escalates only from the states in which the broker has confirmed
// something: never on a missing confirmation. A person may answer a message
// whose confirmation was lost, hence acknowledge in StateNew. A withdrawn alert
// is over: should the study turn suspicious again, that is a new alert.
var transitions = map[State]map[Event]State{
	StateNew: {
		EventConfirm:     StateDelivered,
		EventUpdate:      StateNew,
		EventAcknowledge: StateAcknowledged,
		EventRetract:     StateRetracted,
	},
	StateDelivered: {
		EventConfirm:     StateDelivered,
		EventUpdate:      StateDelivered,
		EventEscalate:    StateEscalated,
		EventAcknowledge: StateAcknowledged,
		EventRetract:     StateRetracted,
	},
	StateEscalated: {
		EventConfirm:     StateEscalated,
		EventUpdate:      StateEscalated,
		EventEscalate:    StateEscalated,
		EventAcknowledge: StateAcknowledged,
		EventRetract:     StateRetracted,
	},
	StateAcknowledged: {
		EventConfirm: StateAcknowledged,
		EventUpdate:  StateAcknowledged,
		EventRetract: StateRetracted,
	},
	StateRetracted: {
		EventConfirm: StateRetracted,
	},
}

// Next returns the state that event leads to. ok is false, and the state
// unchanged, when the event is not allowed.
func (s State) Next(event Event) (next State, ok bool) {
	if next, ok = transitions[s][event]; ok {
		return next, true
	}
	return s, false
}

// Open reports whether the alert still waits for a person.
func (s State) Open() bool {
	_, ok := s.Next(EventAcknowledge)
	return ok
}
