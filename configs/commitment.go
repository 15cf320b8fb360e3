package configs

import "time"

// validateCommitment checks storage commitment for scanners.
func (d *document) validateCommitment(c *Commitment) {
	const key = "dicom.commitment."
	within(d, key+"max_references", c.MaxReferences, 1, 100_000)
	within(d, key+"max_open", c.MaxOpen, 1, 10_000)
	within(d, key+"max_age", c.MaxAge, time.Minute, 365*day)
	within(d, key+"retry.initial", c.Retry.Initial, 100*time.Millisecond, time.Hour)
	within(d, key+"retry.max", c.Retry.Max, c.Retry.Initial, day)
}

// validatePeerCommitment checks storage commitment for the peers of one rule.
func (d *document) validatePeerCommitment(key string, p *Peer, own *DICOM) {
	c := &p.Commitment
	d.oneOf(key+"mode", c.Mode, "allow", "refuse")
	d.validateTLS(key+"tls.", &c.TLS)
	if c.Address == "" {
		return
	}
	d.hostPort(key+"address", c.Address, calling)
	switch {
	case p.AETitle == "":
		d.reject(key+"address", c.Address, &valueError{"has no AE title to call", "an address in an entry with ae_title", ""})
	case c.Mode == "refuse":
		d.reject(key+"address", c.Address, &valueError{"has no use with mode: refuse", "one of the two", ""})
	case own.isOwn(c.Address):
		d.reject(key+"address", c.Address, &valueError{"is ichwatch itself", "the address at which the scanner takes reports", ""})
	}
}

// oneReportAddress checks that each AE title is called at one address alone: a
// request is known by the title that it came from.
func (d *document) oneReportAddress(peers []Peer) {
	first := map[string]int{}
	for i, p := range peers {
		if !p.Reports() {
			continue
		}
		if before, again := first[p.AETitle]; again {
			d.reject(entry("dicom.peers", i)+".commitment.address", p.Commitment.Address,
				&valueError{"is a second one for " + p.AETitle, "one, in " + entry("dicom.peers", before), ""})
			continue
		}
		first[p.AETitle] = i
	}
}

// validateDestinationCommitment checks storage commitment of one destination.
func (d *document) validateDestinationCommitment(key string, c *DestinationCommitment, own *DICOM) {
	d.oneOf(key+"mode", c.Mode, "off", "require")
	if c.Address != "" {
		d.hostPort(key+"address", c.Address, calling)
		if own.isOwn(c.Address) {
			d.reject(key+"address", c.Address, &valueError{"is ichwatch itself: it would confirm what it has not passed on", "an address other than dicom.listen", ""})
		}
	}
	if c.CalledAETitle != "" {
		d.aeTitle(key+"called_ae_title", c.CalledAETitle)
	}
	within(d, key+"collect", c.Collect, 0, time.Hour)
	within(d, key+"wait", c.Wait, 0, 10*time.Minute)
	within(d, key+"timeout", c.Timeout, time.Minute, 30*day)
	within(d, key+"retry.initial", c.Retry.Initial, 100*time.Millisecond, time.Hour)
	within(d, key+"retry.max", c.Retry.Max, c.Retry.Initial, day)
}
