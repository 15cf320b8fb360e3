package dimse

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"ichwatch/dimse/command"
	"ichwatch/dimse/dicom"
)

// Cause is why a connection did not become an association.
type Cause uint8

// The causes. Those of a request are answered with an A-ASSOCIATE-RJ; before a
// request there is nothing to answer, and the connection is closed.
const (
	_                          Cause = iota
	CauseProtocolVersion             // not version 1
	CauseMaximumLength               // no answer fits into the PDUs that the peer takes
	CauseApplicationContext          // not DICOM's
	CauseInvalidCallingAETitle       // blank, or with characters that no title has
	CauseCallingAETitle              // no Peer has this calling AE title
	CauseAddress                     // one has the title, but not the address
	CausePlain                       // one has both, but in TLS alone
	CauseCertificate                 // one has all of that, but not the certificate
	CauseCalledAETitle               // the peer calls somebody else
	CauseAssociations                // Server.MaxAssociations
	CauseAssociationsOfHost          // Server.MaxAssociationsPerHost
	CauseAssociationsOfPeer          // Peer.MaxAssociations
	CauseRate                        // Server.Rates.AssociationsPerMinute
	CauseRateOfPeer                  // Peer.Rates.AssociationsPerMinute
	CauseNoUserIdentity              // none sent where the Peer's rule requires one
	CauseUserIdentityType            // Kerberos, SAML or JWT
	CauseUserIdentity                // unknown user or wrong passcode
	CauseUserIdentityUnchecked       // the check took too long, or could not be made
	CauseAdmit                       // Server.Admit
	CauseTLS                         // TLS spoken to a listener without it
	CauseNoTLS                       // no TLS spoken to a listener with it
	CauseHandshake                   // the TLS handshake failed
	CauseNoRequest                   // the connection ended, or its time, before a request, or the decision on it
)

// causes says each Cause in words, and how its request is answered.
var causes = [...]struct {
	text      string
	rejection Rejection
}{
	CauseProtocolVersion:       {"the peer does not speak version 1 of the protocol", RejectProtocolVersion},
	CauseMaximumLength:         {"the peer's maximum PDU length leaves no room for an answer", RejectACSE},
	CauseApplicationContext:    {"the application context is not DICOM's", RejectApplicationContext},
	CauseInvalidCallingAETitle: {"the calling AE title is blank or no AE title", RejectCallingAETitle},
	CauseCallingAETitle:        {"no peer has this calling AE title", RejectCallingAETitle},
	CauseAddress:               {"the peer of this calling AE title has other addresses", RejectCallingAETitle},
	CausePlain:                 {"the peer of this calling AE title must speak TLS", RejectCallingAETitle},
	CauseCertificate:           {"the peer of this calling AE title has another certificate", RejectCallingAETitle},
	CauseCalledAETitle:         {"the called AE title is not ours", RejectCalledAETitle},
	CauseAssociations:          {"as many associations are open as there may be", RejectLocalLimitExceeded},
	CauseAssociationsOfHost:    {"this host has as many associations open as a host may have", RejectLocalLimitExceeded},
	CauseAssociationsOfPeer:    {"this peer has as many associations open as it may have", RejectLocalLimitExceeded},
	CauseRate:                  {"more associations a minute than there may be", RejectLocalLimitExceeded},
	CauseRateOfPeer:            {"more associations a minute than this peer may open", RejectLocalLimitExceeded},
	CauseNoUserIdentity:        {"no user identity was sent, and this peer must send one", RejectNoReason},
	CauseUserIdentityType:      {"the user identity is neither a username nor a username with a passcode", RejectNoReason},
	CauseUserIdentity:          {"the user is unknown or the passcode wrong", RejectNoReason},
	CauseUserIdentityUnchecked: {"the user identity could not be checked", RejectTemporaryCongestion},
	CauseAdmit:                 {"no association is taken at the moment", RejectTemporaryCongestion},
	CauseTLS:                   {"the peer speaks TLS, and this port does not", Rejection{}},
	CauseNoTLS:                 {"the peer does not speak TLS, and this port speaks nothing else", Rejection{}},
	CauseHandshake:             {"the TLS handshake failed", Rejection{}},
	CauseNoRequest:             {"it ended before an association was requested, or let in", Rejection{}},
}

// String says the cause in a line of a log.
func (c Cause) String() string {
	if int(c) < len(causes) {
		return causes[c].text
	}
	return "cause " + strconv.Itoa(int(c))
}

// Refusal is a connection that did not become an association.
type Refusal struct {
	// As far as the peer came: RemoteAddr always, UserIdentity never.
	AssociateRequestInfo
	Cause Cause
	// Rejection is what the peer was answered; zero where it was only closed on.
	Rejection Rejection
	// Err is what went wrong, where more than Cause is to be said.
	Err error
}

// level is that of a line about the cause. Connections that ask for nothing are
// what every port sees: a monitor that connects and closes, a scanner of ports.
func (c Cause) level() slog.Level {
	if c == CauseNoRequest {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// tell logs a refusal, in one line with all that the peer sent and what to do
// about it. The same one again within repeatInterval is only counted.
func (s *Server) tell(ctx context.Context, a *Association, r Refusal) {
	if !s.repeats.first(repeatKey{hostOf(r.RemoteAddr), r.CallingAETitle, r.CalledAETitle, r.Cause}, a.log, time.Now()) {
		return
	}
	message := "association refused"
	if r.Cause == CauseNoRequest {
		message = "connection ended without an association"
	}
	attrs := []slog.Attr{slog.String("reason", r.Cause.String())}
	if r.Rejection != (Rejection{}) {
		attrs = append(attrs, slog.String("rejection", r.Rejection.String()))
	}
	if r.Err != nil {
		attrs = append(attrs, slog.String("err", printable(r.Err.Error(), 300)))
	}
	if len(r.CertificateNames) > 0 {
		attrs = append(attrs, slog.Any("certificate", printableAll(r.CertificateNames)))
	}
	if r.ImplementationVersionName != "" {
		attrs = append(attrs, slog.String("implementation", printable(r.ImplementationVersionName, 16)))
	}
	if s.Advise != nil {
		var advice string
		_ = a.guard(func() { advice = s.Advise(r) }) // a panic has been told, and cost what was lost anyway
		if advice != "" {
			attrs = append(attrs, slog.String("advice", advice))
		}
	}
	a.log.LogAttrs(ctx, r.Cause.level(), message, attrs...)
}

// printable is what of a peer's text goes into the log: as it is where it is
// printable ASCII, escaped otherwise, and cut to at most n bytes before that.
func printable(s string, n int) string {
	cut := ""
	if len(s) > n {
		s, cut = s[:n], "..."
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		s = strconv.QuoteToASCII(s)
		s = s[1 : len(s)-1]
	}
	return s + cut
}

// comment is an Error Comment of a peer's, fit for a terminal.
func comment(s string) string { return printable(s, command.MaxErrorComment) }

// printableAll is printable for the names of a certificate, the first few.
func printableAll(names []string) []string {
	var out []string
	for _, name := range names[:min(len(names), 4)] {
		out = append(out, printable(name, 64))
	}
	return out
}

const (
	// repeatInterval is how often the same refusal is worth a line.
	repeatInterval = time.Minute
	// maxRepeatsOfHost and maxRepeats are how many different refusals of a host,
	// and in all, are told apart within it.
	maxRepeatsOfHost = 8
	maxRepeats       = 256
)

// repeats keeps a peer that tries again and again from filling the log.
type repeats struct {
	mu    sync.Mutex
	swept time.Time
	seen  map[repeatKey]*repeat
}

// repeatKey is what makes two refusals the same one. Of a peer that varies what
// it sends, and of many such peers, the fields left empty are not looked at.
type repeatKey struct {
	host            string
	calling, called dicom.AETitle
	cause           Cause
}

type repeat struct {
	log   *slog.Logger // of the one that was told
	since time.Time
	more  int // that were not
}

// first says whether a refusal is to be told; otherwise it counts it.
func (r *repeats) first(k repeatKey, log *slog.Logger, now time.Time) bool {
	r.sweep(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[repeatKey]*repeat{}
	}
	if r.seen[k] == nil {
		ofHost := 0
		for other := range r.seen {
			if other.host == k.host {
				ofHost++
			}
		}
		switch {
		case len(r.seen) >= maxRepeats:
			k = repeatKey{cause: k.cause}
		case ofHost >= maxRepeatsOfHost:
			k = repeatKey{host: k.host, cause: k.cause}
		}
	}
	if again := r.seen[k]; again != nil {
		again.more++
		return false
	}
	r.seen[k] = &repeat{log: log, since: now}
	return true
}

// sweep tells how often the refusals of an interval ago came again, and forgets
// them.
func (r *repeats) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.swept) < repeatInterval/4 {
		return
	}
	r.swept = now
	for k, again := range r.seen {
		if now.Sub(again.since) < repeatInterval {
			continue
		}
		if again.more > 0 {
			again.log.Log(context.Background(), k.cause.level(), "refused again, or much the same",
				"reason", k.cause.String(), "times", again.more, "since", again.since)
		}
		delete(r.seen, k)
	}
}
