package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/daemon/conformance"
	"ichwatch/daemon/forward"
	"ichwatch/daemon/receive"
	"ichwatch/daemon/triage"
)

func conformanceCommand() *cobra.Command {
	var path string
	var html bool
	cmd := &cobra.Command{
		Use:   "conformance",
		Short: "Print the DICOM conformance statement of this installation",
		Long: `Prints a DICOM Conformance Statement in the outline of PS3.2, for whoever connects
a scanner or an archive: SOP classes, transfer syntaxes, association policies,
answers, time-outs and security. It is made from the tables that the daemon runs
on, with the configuration of this site; without --config, with the defaults.`,
		Example: `  ichwatch conformance --config ` + defaultConfig + ` > conformance.md
  ichwatch conformance --config ` + defaultConfig + ` --html > conformance.html`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("name the file with --config %s", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := configs.Default()
			if path != "" {
				var err error
				if cfg, err = configs.Load(path); err != nil {
					return reported(cmd, err)
				}
			}
			s := installation(cfg)
			if html {
				return s.HTML(cmd.OutOrStdout())
			}
			return s.Markdown(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "configuration file (default: the defaults)")
	cmd.Flags().BoolVar(&html, "html", false, "one HTML page instead of Markdown")
	return cmd
}

// installation is what there is to be said of a site.
func installation(cfg *configs.Config) *conformance.Site {
	s := &conformance.Site{
		Version: version, Date: time.Now(), Name: cfg.Site, Device: cfg.Device,
		Acceptor: app.Acceptor(cfg), Self: app.SelfTitle, Listen: cfg.DICOM.Listen, Answers: receive.Answers(),
		ReadClasses: triage.SOPClasses(), ReadSyntaxes: triage.TransferSyntaxes(),
		Commitment: commitmentOf(cfg),
	}
	if t := cfg.DICOM.TLS; t.Enabled {
		s.TLS = &conformance.Listener{ClientCertificates: t.ClientCertificates == "require", Plain: t.PlainListen}
	}
	for _, d := range cfg.Destinations {
		s.Destinations = append(s.Destinations, conformance.Destination{
			Name: d.Name, Address: d.Address, Associations: d.Associations, Transcode: d.Transcode == "explicit-vr-le", Dialer: app.Requestor(d), RetryFirst: d.Retry.Initial, RetryMax: d.Retry.Max,
			TLS: d.TLS.Enabled, Identity: identityOf(d), Commitment: askingOf(d.Commitment),
		})
	}
	for _, a := range forward.Answers() {
		s.Meanings = append(s.Meanings, conformance.Meaning{First: a.First, Last: a.Last, Otherwise: a.Otherwise, Becomes: a.Means})
	}
	return s
}

// commitmentOf is storage commitment for scanners.
func commitmentOf(cfg *configs.Config) *conformance.Commitment {
	c := cfg.DICOM.Commitment
	if !c.Enabled {
		return nil
	}
	provided := &conformance.Commitment{
		SameAssociation: c.SameAssociation, MaxReferences: c.MaxReferences, MaxOpen: c.MaxOpen, MaxAge: c.MaxAge,
		RetryFirst: c.Retry.Initial, RetryMax: c.Retry.Max,
	}
	for _, p := range cfg.DICOM.Peers {
		if p.Reports() {
			provided.Peers = append(provided.Peers, conformance.ReportPeer{
				Name: p.Name, Address: p.Commitment.Address, AETitle: p.AETitle, Calling: cmp.Or(p.CalledAETitle, cfg.DICOM.AETitle), TLS: p.Commitment.TLS.Enabled,
			})
		}
	}
	return provided
}

// askingOf is how a destination is asked for its commitment; nil where it is not.
func askingOf(c configs.DestinationCommitment) *conformance.Asking {
	if !c.Required() {
		return nil
	}
	return &conformance.Asking{
		Address: c.Address, AETitle: c.CalledAETitle, Collect: c.Collect, Wait: c.Wait, Timeout: c.Timeout,
		RetryFirst: c.Retry.Initial, RetryMax: c.Retry.Max,
	}
}

// identityOf is the user identity that a destination is sent.
func identityOf(d configs.Destination) string {
	switch {
	case d.Username == "":
		return ""
	case d.PasscodeFile == "":
		return "username"
	}
	return "username and passcode"
}
