// Package triage looks at what the spool holds and decides about studies.
//
//	pending slice -> gate (eligible?) -> pixels in HU -> classifier -> finding, durable
//	finding       -> study rule -> alert, while the study is still arriving
//	quiet study   -> outcome: POSITIVE, NEGATIVE, NOT-ANALYSED or FAILED, each with its reason
//
// A slice that is not for the model is ineligible, with a reason. A slice that is
// and could not be judged, because its file is damaged or the model gave an
// error, an absurd answer, a panic or none at all, has failed, with a reason; the
// daemon lives on. Either way it has its finding, so every study comes to an
// outcome, and an outcome is never NEGATIVE where something failed.
//
// An object of several frames (Enhanced CT) is a stack of slices: each frame has
// the header that a slice would have, goes the same way and has its own finding.
//
// A study is complete when no association carries it and nothing of it has come
// for a quiet time. A late slice opens it again, and what was said is updated or
// withdrawn under the same alert id.
//
// Whatever triage does, it does beside the forwarding: it takes instances from
// the spool and gives findings and decisions back, nothing else waits for it.
//
// Reasons are made of this package's words and of the configuration's, never of
// an object's: a header's text may be anything, a patient's name as well.
package triage
