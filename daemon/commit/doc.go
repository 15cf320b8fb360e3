// Package commit is storage commitment (PS3.4 Annex J) on both sides of the
// spool.
//
// # Towards scanners, as service class provider
//
// A scanner that has stored a study asks whether it may delete its own copy: an
// N-ACTION-RQ with a Transaction UID and the list of instances. [Provider]
// writes the request into the ledger and answers 0000H only then. What it
// reports later, in an N-EVENT-REPORT-RQ, is looked up at that moment: an
// instance is committed when its file is here and reads as it arrived, or when
// every destination has confirmed it.
//
// It is made beside the association of the request, which goes on, and goes over
// that while it is open, or over a later one that the scanner opens for storage
// commitment; otherwise over a new one to the address that the configuration has for its AE
// title, with the roles reversed: there we are the requestor and the SCP. It is
// tried until the scanner has taken it, through restarts, and given up at an
// age, with one alarm in the log.
//
// # Towards destinations, as service class user
//
// Where a destination has to commit itself, what it has stored waits as a sent
// leg. A [Requester] gathers such legs into requests of its own. The report may
// come over the association of the request, which is kept open for it for a
// while, or over one that the destination opens to our listener: [Reports] takes
// it in both cases, from that destination's AE title alone.
//
//   - Committed: the leg is done, however late the report.
//   - 0112H and 0110H: the instance is sent again, a few times, then parked.
//   - 0213H and 0131H: it is asked for again later.
//   - Any other reason: parked.
//   - No report in time, a request that is refused, a destination that cannot be
//     reached: asked again, later each time, in a transaction of its own. There
//     is no last time, for nothing is removed meanwhile.
//
// A request is in the ledger before it leaves, and a report is in the ledger
// before it is answered: whichever side dies in between, the other one repeats
// itself, and nothing is done twice.
package commit
