// Package alerts is what ichwatch says to people, and how it makes sure that it
// was heard.
//
// A study in which a hemorrhage is suspected becomes an alert: one stable id,
// under which a sequence of messages travels (new, update, retract, escalate).
// Every study, suspicious or not, ends in an outcome message, so that silence
// never has to be read as "negative". Both are JSON; the schemas stand in
// schema/ and are embedded.
//
// Three parts carry them:
//
//   - An [Outbox] holds the messages. It belongs to whoever decides, because a
//     decision and the message about it must be durable in one transaction.
//   - The [Courier] takes them from the outbox to a [Publisher], in order for
//     each study, none waiting for another study's, again and again until the
//     broker confirms. Hence at least once: a receiver drops a message whose
//     seq it has already seen under that alert_id.
//   - The [Escalator] watches the [Book] of alerts that nobody has acknowledged
//     and raises them level by level, until somebody has.
//
// Beside the broker there may be other ways out, each a [Channel] with entries,
// courier and [Fault] of its own; a [Route] says what it is told. Another one, HL7
// or FHIR say, is another Publisher.
//
// A broker's confirmation and a person's acknowledgement are different things
// and are never mixed up. What escalates is the missing person. An alert that the
// broker has not taken yet reached nobody, so nobody can be late: its clock
// starts with the confirmation, and until then the courier is at work.
//
// The package knows neither DICOM nor models nor where its outbox lies.
package alerts

// Disclaimer stands in every message that says something about a patient.
const Disclaimer = "Suspected finding, not for diagnosis."
