// Package dimse is the network side of DICOM: associations (PS3.8), the
// message exchange over them (PS3.7), the Verification and Storage services in
// both roles (PS3.4 Annexes A and B), and the messages of Storage Commitment in
// both roles (PS3.4 Annex J), whose data sets package commitment codes.
//
// # Receiving
//
// A [Server] is configured by its fields, as net/http's is, and hands every
// C-ECHO-RQ and C-STORE-RQ to a [Handler]. A data set is never held in memory:
// [Handler.Store] reads it from an io.Reader as its fragments arrive, byte for
// byte as the peer sent it, and the status that Store returns is the status
// that the peer gets. So whatever must be durable before Success is made
// durable inside Store.
//
// # Sending
//
// A [Dialer] proposes presentation contexts and opens an [Association], on
// which Echo and Store exchange one message at a time and Release ends in
// good order. Any error in mid-message leaves the two sides without a common
// idea of where they are; the association is then aborted and every later
// call returns [ErrAssociationClosed]: dial again.
//
// # Committing
//
// Storage commitment turns the roles round: whoever was asked reports later, by
// a request of its own. A Server with an [ActionHandler] performs N-ACTION and
// sends the report over the same association while the peer keeps it open; one
// with an [EventReportHandler] takes reports. The other way, a requestor's
// Action and AwaitEventReport ask and wait, and EventReport delivers a report
// over a new association on which it proposed itself as SCP.
//
// # How an association runs
//
// Both roles are driven by one table, PS3.8 Table 9-10, held as data in
// state.go: events (PDUs from the peer, requests of the local user, the
// transport, the ARTIM timer) select an action and the next state. The
// packages below know nothing of it: pdu codes PS3.8 section 9.3, command
// codes the command sets of PS3.7, and both check every length against what is
// there before they allocate.
//
// # Who may speak
//
// [Server.Peers] are the rules about that, by AE titles, address and certificate,
// and about how much each may send; [Server.Authenticator] checks the user
// identities that a rule requires. A request that is refused is answered with the
// result, source and reason of PS3.8 section 9.3.4, and is one line in the log,
// with the word of [Server.Advise] (refusal.go). [Server.ServeTLS] and package
// tlsprofile are for TLS; packages identity and reload serve both.
//
// # What a peer can cost us
//
// A peer's time is bounded by a purse of patience (see transport.go): waiting
// spends it and bytes that arrive earn it back, so a silent socket, one byte a
// second and an endless chain of fragments all end within a deadline, while an
// honest sender on a slow line is never cut off. A peer's memory is bounded by
// the PDU length that we offered; what it can write into the log by repeating
// itself, by a count. ARTIM is a point in time, which nothing puts off. A panic in
// a Handler costs its association.
package dimse
