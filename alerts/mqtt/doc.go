// Package mqtt takes alerts and outcomes to an MQTT 3.1.1 broker and brings
// acknowledgements back. It is the only package that imports the MQTT client.
//
// Under <root>/v1/<site>/<device>/ stand
//
//	state    retained, QoS 1: "online" after every connect, "offline" before an
//	         orderly end and as the last will; with the boot number, so that a
//	         death of an earlier life is not taken for one of this
//	alert    QoS 1, not retained: a stale alarm is a hazard
//	outcome  QoS 1, not retained
//	health   retained, QoS 1: a heartbeat, when one is configured
//	ack      QoS 1, read: acknowledgements by people
//
// A broker's word is not taken for granted. It may have several addresses, the
// nodes of a cluster; where one fails the next is in turn. A message is delivered
// when the broker has confirmed it and, having it read back from its own topic,
// the client has seen it pass. What stands in the way is an [alerts.Fault]: one alarm, in
// words that tell a technician what to do, until it is over; meanwhile the client
// goes on trying, at intervals that grow.
//
// Each connection is a client of its own, with nothing left over from the one
// before: what the broker has not confirmed stands in the outbox, is durable
// there, and is sent again from there. Reconnecting is done here, not in the
// client library, so that it stops when it is told to. The session at the broker,
// on the other hand, outlives the connection (clean session false), so that an
// acknowledgement that was sent while this device was away arrives when it
// returns; the broker gets its PUBACK for one only after it has been recorded.
package mqtt
