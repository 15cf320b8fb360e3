// Package service keeps a model, or several that answer as one, in service: it
// verifies what is to look at slices, warms it beside what does, tries it on slices
// with known truth, exchanges it between two slices, and goes back.
//
//	folder  -> hash, structure, signature       Verifier
//	        -> loaded beside the one in service Options.Load
//	        -> canary: phantom slices           finite, tells bleeds from none
//	        -> state file, then the exchange    who uses the old one keeps it to the end
//
// What was activated survives a restart in a file, active.json, which is written
// before the exchange. It holds until it is changed by command, or until the
// configuration names other models than it did then.
//
// The canary runs again at the start, daily, and after every change. What it says
// then is held against what it said when the model came into service; where that
// differs, first the provider is taken for the culprit and then the model, which is
// rolled back.
//
// Everything here is about suspected findings and not for diagnosis.
package service
