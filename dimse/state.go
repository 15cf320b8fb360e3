package dimse

import "fmt"

// state is a state of the upper layer protocol machine (PS3.8 Tables 9-1 to 9-5).
type state uint8

const (
	_     state = iota
	sta1        // idle
	sta2        // transport connection open, awaiting A-ASSOCIATE-RQ
	sta3        // awaiting the local A-ASSOCIATE response
	sta4        // awaiting the transport connection to open
	sta5        // awaiting A-ASSOCIATE-AC or -RJ
	sta6        // association established and ready for data transfer
	sta7        // awaiting A-RELEASE-RP
	sta8        // awaiting the local A-RELEASE response
	sta9        // release collision, requestor: awaiting the local A-RELEASE response
	sta10       // release collision, acceptor: awaiting A-RELEASE-RP
	sta11       // release collision, requestor: awaiting A-RELEASE-RP
	sta12       // release collision, acceptor: awaiting the local A-RELEASE response
	sta13       // awaiting the transport connection to close
)

func (s state) String() string { return fmt.Sprintf("Sta%d", uint8(s)) }

// event is what moves the machine (PS3.8 Table 9-10, first column).
type event uint8

const (
	_     event = iota
	evt1        // A-ASSOCIATE request (local user)
	evt2        // transport connection confirmed
	evt3        // A-ASSOCIATE-AC received
	evt4        // A-ASSOCIATE-RJ received
	evt5        // transport connection indicated
	evt6        // A-ASSOCIATE-RQ received
	evt7        // A-ASSOCIATE response: accept (local user)
	evt8        // A-ASSOCIATE response: reject (local user)
	evt9        // P-DATA request (local user)
	evt10       // P-DATA-TF received
	evt11       // A-RELEASE request (local user)
	evt12       // A-RELEASE-RQ received
	evt13       // A-RELEASE-RP received
	evt14       // A-RELEASE response (local user)
	evt15       // A-ABORT request (local user)
	evt16       // A-ABORT received
	evt17       // transport connection closed
	evt18       // ARTIM expired
	evt19       // unrecognized or invalid PDU received
)

func (e event) String() string { return fmt.Sprintf("Evt%d", uint8(e)) }

// action is what the machine does on an event (PS3.8 Tables 9-6 to 9-9).
type action uint8

const (
	forbidden action = iota // the event cannot occur in the state
	ae1
	ae2
	ae3
	ae4
	ae5
	ae6
	ae7
	ae8
	dt1
	dt2
	ar1
	ar2
	ar3
	ar4
	ar5
	ar6
	ar7
	ar8
	ar9
	ar10
	aa1
	aa2
	aa3
	aa4
	aa5
	aa6
	aa7
	aa8
)

// effect is what an action does to connection and timer, and whether it tells
// the local user.
type effect uint16

const (
	send           effect = 1 << iota // the PDU that the event calls for
	abortAsUser                       // send an A-ABORT, source service-user
	abortAsService                    // send an A-ABORT, source service-provider
	startARTIM
	stopARTIM
	indicate // indication or confirmation to the local user
	disconnect
)

// actions says what each action does and which state follows. Where the
// standard names two states, the second one is for the other case: of AE-6, a
// request that the service provider rejects; of AR-8, an acceptor.
var actions = [...]struct {
	name        string
	does        effect
	next, other state
}{
	ae1:  {"AE-1", 0, sta4, 0},
	ae2:  {"AE-2", send, sta5, 0},
	ae3:  {"AE-3", indicate, sta6, 0},
	ae4:  {"AE-4", indicate | disconnect, sta1, 0},
	ae5:  {"AE-5", startARTIM, sta2, 0},
	ae6:  {"AE-6", stopARTIM | indicate, sta3, sta13},
	ae7:  {"AE-7", send, sta6, 0},
	ae8:  {"AE-8", send | startARTIM, sta13, 0},
	dt1:  {"DT-1", send, sta6, 0},
	dt2:  {"DT-2", indicate, sta6, 0},
	ar1:  {"AR-1", send, sta7, 0},
	ar2:  {"AR-2", indicate, sta8, 0},
	ar3:  {"AR-3", indicate | disconnect, sta1, 0},
	ar4:  {"AR-4", send | startARTIM, sta13, 0},
	ar5:  {"AR-5", stopARTIM, sta1, 0},
	ar6:  {"AR-6", indicate, sta7, 0},
	ar7:  {"AR-7", send, sta8, 0},
	ar8:  {"AR-8", indicate, sta9, sta10},
	ar9:  {"AR-9", send, sta11, 0},
	ar10: {"AR-10", indicate, sta12, 0},
	aa1:  {"AA-1", abortAsUser | startARTIM, sta13, 0},
	aa2:  {"AA-2", stopARTIM | disconnect, sta1, 0},
	aa3:  {"AA-3", indicate | disconnect, sta1, 0},
	aa4:  {"AA-4", indicate, sta1, 0},
	aa5:  {"AA-5", stopARTIM, sta1, 0},
	aa6:  {"AA-6", 0, sta13, 0},
	aa7:  {"AA-7", abortAsService, sta13, 0},
	aa8:  {"AA-8", abortAsService | indicate | startARTIM, sta13, 0},
}

func (a action) String() string { return actions[a].name }

// transitions is PS3.8 Table 9-10. What is not in it is forbidden.
var transitions = [evt19 + 1][sta13 + 1]action{
	evt1: {sta1: ae1},
	evt2: {sta4: ae2},
	evt3: {
		sta2: aa1, sta3: aa8, sta5: ae3, sta6: aa8, sta7: aa8, sta8: aa8,
		sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6,
	},
	evt4: {
		sta2: aa1, sta3: aa8, sta5: ae4, sta6: aa8, sta7: aa8, sta8: aa8,
		sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6,
	},
	evt5: {sta1: ae5},
	evt6: {
		sta2: ae6, sta3: aa8, sta5: aa8, sta6: aa8, sta7: aa8, sta8: aa8,
		sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa7,
	},
	evt7: {sta3: ae7},
	evt8: {sta3: ae8},
	evt9: {sta6: dt1, sta8: ar7},
	evt10: {
		sta2: aa1, sta3: aa8, sta5: aa8, sta6: dt2, sta7: ar6, sta8: aa8,
		sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6,
	},
	evt11: {sta6: ar1},
	evt12: {
		sta2: aa1, sta3: aa8, sta5: aa8, sta6: ar2, sta7: ar8, sta8: aa8,
		sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa6,
	},
	evt13: {
		sta2: aa1, sta3: aa8, sta5: aa8, sta6: aa8, sta7: ar3, sta8: aa8,
		sta9: aa8, sta10: ar10, sta11: ar3, sta12: aa8, sta13: aa6,
	},
	evt14: {sta8: ar4, sta9: ar9, sta12: ar4},
	evt15: {
		sta3: aa1, sta4: aa2, sta5: aa1, sta6: aa1, sta7: aa1, sta8: aa1,
		sta9: aa1, sta10: aa1, sta11: aa1, sta12: aa1,
	},
	evt16: {
		sta2: aa2, sta3: aa3, sta5: aa3, sta6: aa3, sta7: aa3, sta8: aa3,
		sta9: aa3, sta10: aa3, sta11: aa3, sta12: aa3, sta13: aa2,
	},
	evt17: {
		sta2: aa5, sta3: aa4, sta4: aa4, sta5: aa4, sta6: aa4, sta7: aa4, sta8: aa4,
		sta9: aa4, sta10: aa4, sta11: aa4, sta12: aa4, sta13: ar5,
	},
	evt18: {sta2: aa2, sta13: aa2},
	evt19: {
		sta2: aa1, sta3: aa8, sta5: aa8, sta6: aa8, sta7: aa8, sta8: aa8,
		sta9: aa8, sta10: aa8, sta11: aa8, sta12: aa8, sta13: aa7,
	},
}

// machine is the protocol machine of one association.
type machine struct {
	state     state
	requestor bool
}

// step moves the machine on e and returns the action to perform. rejected says
// of Evt6 that the service provider rejects the request. A forbidden event
// leaves the machine as it was.
func (m *machine) step(e event, rejected bool) (action, error) {
	act := transitions[e][m.state]
	if act == forbidden {
		return forbidden, fmt.Errorf("dimse: %s cannot occur in %s", e, m.state)
	}
	next := actions[act].next
	if act == ae6 && rejected || act == ar8 && !m.requestor {
		next = actions[act].other
	}
	m.state = next
	return act, nil
}
