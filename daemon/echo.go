package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// echo is a call of ichwatch echo.
type echo struct {
	peer
	count  int
	asJSON bool
}

func echoCommand() *cobra.Command {
	var e echo
	cmd := &cobra.Command{
		Use:   "echo HOST:PORT|DESTINATION",
		Short: "Ask a DICOM peer whether it is there (C-ECHO)",
		Long: `Opens an association for Verification, sends a C-ECHO and tells the answer, how
long it took and who answered. The peer is HOST:PORT, or the name of a destination
of the configuration, which is then called exactly as the daemon calls it.
A passcode is read from a file, as others could see an argument in the list of
processes; without TLS it crosses the network in the clear.

Exit status: 0 every echo succeeded; 1 no association, or it was lost; 2 called
wrongly; 3 the peer answered with another status than success.`,
		Example: `  ichwatch echo localhost:11112 --called ICHWATCH --calling CT1
  ichwatch echo pacs                                  a destination of ` + defaultConfig + `
  ichwatch echo pacs.example.org:104 --called PACS --count 5 --json
  ichwatch echo pacs.example.org:2762 --called PACS --tls-ca site-ca.pem \
    --tls-certificate ct1.pem --tls-key ct1.key --username ct1 --passcode-file passcode`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one peer: HOST:PORT or a destination")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if e.count < 1 {
				return callError(cmd, fmt.Errorf("--count %d: wanted is 1 or more", e.count))
			}
			d, err := e.dialer(cmd, args[0])
			if err != nil {
				return err
			}
			return e.run(cmd.Context(), cmd.OutOrStdout(), d)
		},
	}
	e.flags(cmd)
	cmd.Flags().IntVarP(&e.count, "count", "n", 1, "echoes on the association")
	cmd.Flags().BoolVar(&e.asJSON, "json", false, "one JSON object a line")
	return cmd
}

// echoed is a line of the output.
type echoed struct {
	Address        string  `json:"address"`
	CalledAETitle  string  `json:"called_ae_title"`
	Status         string  `json:"status"`
	StatusText     string  `json:"status_text"`
	Milliseconds   float64 `json:"milliseconds"`
	Implementation string  `json:"implementation,omitempty"`
	MaxPDU         uint32  `json:"max_pdu"` // 0: no limit
}

func (e *echo) run(ctx context.Context, out io.Writer, d dimse.Dialer) error {
	d.Contexts = []dimse.ProposedContext{{
		AbstractSyntax:   dicom.Verification,
		TransferSyntaxes: []dicom.UID{dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian},
	}}
	a, err := d.Dial(ctx, e.addr)
	if err != nil {
		return err
	}
	defer a.Abort()
	var bad dimse.Status
	for range e.count {
		begun := time.Now()
		status, err := a.Echo(ctx)
		if err != nil {
			return fmt.Errorf("no answer from %s: %w", e.addr, err)
		}
		if status != dimse.StatusSuccess {
			bad = status
		}
		line := echoed{
			Address: e.addr, CalledAETitle: string(d.CalledAETitle), Status: status.Code(), StatusText: status.Name(),
			Milliseconds: milliseconds(time.Since(begun)), Implementation: a.PeerImplementationVersionName(), MaxPDU: a.PeerMaxPDU(),
		}
		if err := line.write(out, e.asJSON); err != nil {
			return err
		}
	}
	if err := a.Release(ctx); err != nil {
		return err
	}
	if bad != dimse.StatusSuccess {
		return exitError{fmt.Errorf("%s answered %v", e.addr, bad), exitRefused}
	}
	return nil
}

func (l *echoed) write(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(l)
	}
	limit := "no limit"
	if l.MaxPDU > 0 {
		limit = fmt.Sprintf("%d bytes", l.MaxPDU)
	}
	_, err := fmt.Fprintf(out, "%s %s: %s (%s) in %.1f ms; implementation %q, longest PDU %s\n",
		l.CalledAETitle, l.Address, l.Status, l.StatusText, l.Milliseconds, l.Implementation, limit)
	return err
}

// milliseconds with a microsecond's precision.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
