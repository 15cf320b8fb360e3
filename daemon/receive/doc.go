// Package receive takes C-STORE in: it is the first station of the line, and
// the one whose answer a scanner believes.
//
// An object goes through it as a stream. Its bytes are written to the spool as
// they arrive, unread but for the header, which the bounded scanner looks at on
// the way; whatever the object's size, it is never in memory. Then
//
//	the disk nearly full, or failing  association refused, transient
//	the disk full, or below reserve   A700H
//	another data set than announced   A900H
//	no UIDs, or nonsense before them  C000H
//	any other failure of ours         0110H
//	committed to the spool            0000H
//
// and nothing of a refused or broken-off object stays behind. An object that is
// malformed only behind its UIDs is taken like any other: the PACS may make more
// of it than we do, and triage, which meets the same fault in the stored file,
// reports it as not analysed.
//
// While an association is open, the studies that it has brought count as
// incomplete.
package receive
