package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"ichwatch/alerts"
)

// advise adds to an error of connecting to broker what a technician can do about
// it.
func advise(err error, broker *url.URL) error {
	return alerts.Advise(err, adviceFor(err, overTLS(broker)))
}

func adviceFor(err error, secured bool) string {
	if advice := adviceForTLS(err); advice != "" {
		return advice
	}
	_, foreign := errors.AsType[tls.RecordHeaderError](err)
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	_, unnamed := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, packets.ErrorRefusedNotAuthorised), errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		return "the broker does not take this login; compare alerts.mqtt.username and the content of alerts.mqtt.password_file with the broker's users"
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return "the broker does not take this client id; set alerts.mqtt.client_id to one that it allows"
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return "the broker runs and is not ready; its log says why"
	case errors.Is(err, ErrNoAnswer):
		return "something takes the connection and does not speak MQTT in time; is it the broker's port, and what does the broker's log say?"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there; start the broker, or correct address and port in alerts.mqtt.broker"
	case unnamed:
		return "the name is not known; correct alerts.mqtt.broker, or the DNS of this machine"
	case secured && (foreign || closed):
		return "there seems to be no TLS at this port of the broker; alerts.mqtt.broker needs its TLS port (8883 as a rule)" + closedByNATS
	case closed:
		return "the broker closed the connection instead of answering; where this is its TLS port, alerts.mqtt.broker begins with tls://" + closedByNATS
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the host does not answer; see whether it is up, and what the network and its firewalls let through"
	}
	return "see the broker's log"
}

const closedByNATS = "; NATS hangs up, too, without a majority of its cluster or with a full store"

// adviceForLoss is about a connection that the broker had accepted.
func adviceForLoss(err error) string {
	switch {
	case errors.Is(err, ErrNotConfirmed):
		return "the broker takes messages and does not confirm them; its disk may be full, its cluster without a quorum, or something on the way holds its answers back: see the broker's log"
	case errors.Is(err, ErrNotReturned):
		return adviceNotReturned
	case errors.Is(err, errTooBrief):
		return "another client at the broker may have the same client_id (made of site and device where it is not set), so that each throws the other out: give each device its own. If not, the broker does not take what is sent, for its store may be full, or stops again and again: see its log"
	}
	return "the broker, or something on the way, ended it: see the broker's log, whether it runs, and whether its store has room"
}

const adviceNotReturned = "the broker confirmed it and did not hand it back. Either its access list does not let this user write there, or its limit for the size of a message is too small: then nobody got it. " +
	"Or the user may not read there: grant both rights (mosquitto: topic readwrite), or set alerts.mqtt.read_back: false"

const adviceDeadly = "the broker ends the connection each time this message is sent: its limit for the size of a packet is too small, its store is full, or its access list does not let this user write there. Other messages go on in between"

// adviceForTLS is about certificates; empty where it is about something else.
func adviceForTLS(err error) string {
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, otherName := errors.AsType[x509.HostnameError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case isInvalid && invalid.Reason == x509.Expired:
		return "the broker's certificate is not valid at this time: renew it there, and compare the clock of this machine"
	case isInvalid:
		return "the broker's certificate cannot be used: replace it there"
	case unknown:
		return "nobody whom we trust has signed the broker's certificate: alerts.mqtt.ca_file must hold the authority that did"
	case otherName:
		return "the broker's certificate is for another name: put a name that stands in it into alerts.mqtt.broker, or give the broker a certificate with this one"
	case isOp && op.Op == "remote error": // so crypto/tls calls the other side's alerts
		return "the broker refused the TLS connection: where it wants a certificate from its clients, alerts.mqtt.certificate_file must be one that its authority has signed and that is still valid"
	}
	return ""
}
