// Package spool keeps what the scanner sent until nobody needs it any more.
//
// It is the queue of a mail server, for images: Create and Commit take an
// instance in and return only when it is on disk; each instance then has a leg
// to each destination where it goes, which package forward walks, and one finding
// to be made, which package triage makes; the decisions about a study leave as messages
// through a transactional outbox, which package alerts delivers.
//
// # What is where
//
//	<dir>/incoming/<ulid>.part      being received; nothing here was ever acknowledged
//	<dir>/instances/<xx>/<ulid>.dcm acknowledged: Part 10 header, then the data set as it arrived
//	<dir>/quarantine/               what recovery did not trust; never deleted by the program
//	<dir>/ledger.db                 SQLite: studies, instances, legs, commitments, findings, alerts, outbox, events
//	<dir>/journal.jsonl             what people were told and answered, should the ledger be lost
//	<dir>/journal.begun             the same, while its first lines are written
//	<dir>/pseudonym.key             the key of the study pseudonyms that logs carry
//	<dir>/boot                      how often the spool was opened
//	<dir>/lock                      held by the one process that uses the spool
//	<dir>/flush                     for a moment, while Open measures the disk
//
// Names are ULIDs, so that no name tells anything about a patient, and files
// sort by the time of receipt. <xx> are the last eight bits of the ULID.
//
// # The file is the truth, the ledger its index
//
// Commit syncs the file, renames it, syncs the directory and only then writes
// the index row. What a scan of the files can rebuild (instances, their legs,
// their pending findings) is written with synchronous=NORMAL: it survives the
// death of the process, and after a power cut Open adopts the files whose rows
// were lost. What no file tells (findings, outcomes, alerts, acknowledgements,
// legs done, removals) is written with synchronous=FULL. Both go to one
// write-ahead log, so that a durable row never refers to a lost one.
//
// # Rules of failure
//
//   - Success is told to a sender only after Commit returned nil. Whatever else
//     Commit returns, the sender must be told to try again; the copy that did
//     reach the disk is removed, or, where that fails too, adopted at the next
//     start or recognised as a second copy.
//   - Held already means that the file is there: a duplicate of an instance
//     whose file is gone or cut short takes that file's place.
//   - The same SOP Instance UID with the same data set is stored once; a second
//     sending of it succeeds, and gives parked legs another chance. With
//     another data set both are kept and forwarded, and an event is recorded.
//   - A file that is not understood goes to quarantine, and a row whose file is
//     gone is marked missing and reported; neither is deleted. From a file that the
//     disk does not give back nothing is concluded: it is tried again for a second,
//     then left where it is until the next start, and reported.
//   - A ledger that is missing or corrupt is moved to quarantine and rebuilt
//     from the files: everything is then forwarded and analysed once more,
//     which the standard permits. Outcomes, alerts and answers come back from the
//     journal: nothing is said twice but what the broker may not have, and what is
//     said next goes on under the old ids and numbers.
//   - A storage commitment that a peer has asked for is open until its report was
//     delivered or is too old. What it says is looked up, and read from the disk,
//     when it is said: a file that is not what arrived goes to quarantine, and is
//     taken in anew when it is sent again.
//   - Where a destination has to commit itself, what it has stored is sent and not
//     done before it has. A request to it is in the ledger before it leaves, so
//     that its report is understood whenever it comes.
//   - Where an instance goes is decided when it is indexed, from its file and its
//     Part 10 header. A leg that depends on the outcome of the study is made in the
//     transaction of the decision, and again looked for in each later one. What goes
//     nowhere is said once for its study, and looked at anew at the next start.
//   - A file is removed only when a ledger transaction has seen every one of
//     its legs done, its finding made, its study decided and the retention time
//     over. An instance without any leg is never removed.
package spool
