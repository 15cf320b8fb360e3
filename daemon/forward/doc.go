// Package forward takes what is in the spool to the PACS.
//
// Every destination has a Forwarder of its own, with one association at a time:
// a slow destination delays no other. It walks the legs in the spool's order,
// urgent studies first, then the oldest, and sends each data set as it lies in
// the file, in the transfer syntax in which it came. It knows nothing of models
// or alerts and waits for neither.
//
// # What an answer means
//
//   - Done: 0000H, the warnings B000H, B006H and B007H (PS3.4 Table B.2-1), with
//     which the destination has kept the instance, and 0111H, by which it says
//     that it had it already. Where another data set came under the same UID,
//     0111H is a refusal: which of the two it has, it does not say. Where the
//     destination has to commit itself, the leg is only sent by that; package
//     commit brings it to its end, or back here.
//   - Try again: A7xxH, 0110H, 0213H, and whatever kept an answer from coming: no
//     connection, a rejected association, an abort, a time-out. The leg waits
//     longer each time, up to a limit, and is never given up. So does the
//     destination: after a failure nothing else is tried on it for a while that
//     grows with each failure in a row, so that a dead PACS is asked rarely. A
//     leg that keeps failing goes behind all others: the instances that a PACS
//     chokes on do not block the rest.
//   - Parked: every other status, a destination that accepts no context for the
//     stored transfer syntax, and a data set that cannot be sent at all. Trying
//     again would bring the same answer: the log has one alarm for each such
//     reason, and the leg waits for a person.
//
// A data set is hashed on its way out. Where the disk gives back other bytes than
// arrived, the association is aborted before the last of them and the leg parked.
//
// After anything but an answer the association is aborted and the next one
// dialled anew.
package forward
