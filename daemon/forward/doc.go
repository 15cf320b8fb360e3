// Package forward takes what is in the spool to the PACS.
//
// Every destination has a Forwarder of its own, with some associations at a time:
// one that is slow or hangs delays no other. It walks the legs in the spool's order,
// urgent studies first, then the oldest, and sends each data set as it lies in
// the file, in the transfer syntax in which it came. Only where the site allows it
// (Transcode) what a destination does not take so is sent decompressed, by package
// transcode, and the leg says so. It knows nothing of models or alerts and waits for
// neither.
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
//     longer each time, up to a limit, and is never given up. A leg that keeps
//     failing goes behind all others: the instances that a PACS chokes on do not
//     block the rest.
//   - Parked: every other status, a destination that accepts no context for the
//     stored transfer syntax, and a data set that cannot be sent at all. Trying
//     again would bring the same answer: the leg waits for a person.
//
// # A destination that fails
//
// Its circuit opens when no association can be had, or after three failures in a
// row: then nothing is sent. After a while, longer each time up to a limit and never
// the same for two devices, it is asked with a C-ECHO. When that is answered one
// instance is sent; when that is too, the circuit is closed, and what waited for its
// next try goes at once. This has no end: also who is rejected for good, as unknown,
// is let in without our help once somebody has entered us at the PACS.
//
// The log has one alarm (level ERROR) for each cause, of a failing destination and of
// parked legs alike, and another one after an hour if it lasts or comes back. An
// association that is rejected beside others that are open is one too many: it is not
// asked for again for a while, and nothing fails.
//
// A data set is hashed on its way out. Where the disk gives back other bytes than
// arrived, the association is aborted before the last of them and the leg parked.
//
// After anything but an answer the association is aborted and the next one
// dialled anew.
package forward
