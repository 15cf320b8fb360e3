package app

import (
	"fmt"
	"log/slog"
	"slices"

	"ichwatch/configs"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// Acceptor is the acceptor that a configuration asks for, without what answers on it. The conformance statement is made
// of it too.
func Acceptor(cfg *configs.Config) *dimse.Server {
	c := &cfg.DICOM
	return &dimse.Server{
		AETitle:                   dicom.AETitle(c.AETitle),
		AcceptAnyCalledAETitle:    c.AcceptAnyCalledAE,
		AcceptBlankCallingAETitle: c.AcceptBlankCallingAE,
		Peers:                     newPeers(cfg),
		PrivateStorage:            uids(c.PrivateSOPClasses),
		UnknownStorage:            c.UnknownSOPClasses == "accept",
		TransferSyntaxes:          preferred(c.TransferSyntaxes),
		MaxPDU:                    uint32(c.MaxPDU),
		MaxAssociations:           c.MaxAssociations,
		MaxAssociationsPerHost:    c.MaxAssociationsPerHost,
		Rates:                     rates(c.MaxAssociationsPerMinute, c.MaxObjectsPerSecond, c.MaxBytesPerSecond),
		MaxObject:                 int64(c.MaxObject),
		ARTIM:                     c.ARTIMTimeout,
		IdleTimeout:               c.IdleTimeout,
		ReadTimeout:               c.ReadTimeout,
		WriteTimeout:              c.WriteTimeout,
	}
}

// Requestor is the requestor that a destination asks for, as far as it takes no files: without TLS and user identity.
// The conformance statement is made of it too.
func Requestor(d configs.Destination) dimse.Dialer {
	return dimse.Dialer{
		CallingAETitle: dicom.AETitle(d.CallingAETitle),
		CalledAETitle:  dicom.AETitle(d.CalledAETitle),
		DialTimeout:    d.Timeouts.Dial,
		ACSETimeout:    d.Timeouts.ACSE,
		ReadTimeout:    d.Timeouts.Read,
		WriteTimeout:   d.Timeouts.Write,
	}
}

// Dialer is the whole Requestor, for whoever calls a destination: the daemon, or a person by hand. Contexts are the
// caller's.
func Dialer(d configs.Destination, log *slog.Logger) (dimse.Dialer, error) {
	dialer := Requestor(d)
	dialer.Log = log
	err := secure(&dialer, &d.TLS, log)
	if err == nil {
		dialer.UserIdentity, err = userIdentity(&d)
	}
	if err != nil {
		return dialer, fmt.Errorf("destination %s: %w", d.Name, err)
	}
	return dialer, nil
}

// preferred puts the configured transfer syntaxes before all others that are known: an order keeps none out, because some
// senders give up a whole study over one that is refused.
func preferred(configured []string) []dicom.UID {
	if len(configured) == 0 {
		return nil // the sender's order
	}
	order := uids(configured)
	for _, ts := range dicom.TransferSyntaxes() {
		if !slices.Contains(order, ts.UID) {
			order = append(order, ts.UID)
		}
	}
	return order
}

func uids(texts []string) []dicom.UID {
	var out []dicom.UID
	for _, text := range texts {
		out = append(out, dicom.UID(text))
	}
	return out
}
