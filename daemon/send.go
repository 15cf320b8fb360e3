package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/daemon/send"
)

// sending is a call of ichwatch send.
type sending struct {
	peer
	associations, retries int
	verbose, asJSON       bool
}

func sendCommand() *cobra.Command {
	var s sending
	cmd := &cobra.Command{
		Use:   "send HOST:PORT|DESTINATION FILE|DIR...",
		Short: "Send DICOM files to a peer (C-STORE)",
		Long: `Sends DICOM files, and all those below folders, to HOST:PORT or to a destination of
the configuration, which is then called exactly as the daemon calls it. Each object
goes unchanged, in the transfer syntax in which it lies in its file. What is no
DICOM file (Part 10), or a DICOMDIR, is skipped and counted.

It prints a line for each object that was not simply stored, and a summary; with
--verbose a line for every object; with --json one JSON object a line for every
object and every file skipped, and the summary last.

A passcode is read from a file, as others could see an argument in the list of
processes; without TLS it crosses the network in the clear.

Without --retries an object is tried once. An association that breaks costs the
object under way; the next one is dialled for the others.

Exit status: 0 everything was stored, with a warning perhaps; 1 no association, or
nothing to send; 2 called wrongly; 3 the peer refused some objects, or gave no
answer to them.`,
		Example: `  ichwatch send localhost:11112 studies --called ICHWATCH --calling CT1
  ichwatch send pacs studies/normal-0001               a destination of ` + defaultConfig + `
  ichwatch send pacs.example.org:104 --called PACS -n 4 archive
  ichwatch send pacs archive --json > sent.jsonl
  ichwatch send pacs.example.org:2762 studies --called PACS \
    --tls-ca site-ca.pem --tls-certificate ct1.pem --tls-key ct1.key \
    --username ct1 --passcode-file passcode`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("name a peer, HOST:PORT or a destination, and the files or folders to send")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.associations < 1 || s.associations > 64 {
				return callError(cmd, fmt.Errorf("--associations %d: wanted are 1 to 64", s.associations))
			}
			if s.retries < 0 {
				return callError(cmd, fmt.Errorf("--retries %d: wanted is 0 or more", s.retries))
			}
			return s.run(cmd, args[0], args[1:])
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.IntVarP(&s.associations, "associations", "n", 1, "associations at a time")
	f.IntVar(&s.retries, "retries", 0, "further tries where the failure may pass, a second apart")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "a line for every object")
	f.BoolVar(&s.asJSON, "json", false, "one JSON object a line")
	return cmd
}

// tally is the summary.
type tally struct {
	Address  string  `json:"address"`
	Objects  int     `json:"objects"`
	Stored   int     `json:"stored"`
	Warnings int     `json:"warnings"`
	Refused  int     `json:"refused"`
	Failed   int     `json:"failed"`
	Unsent   int     `json:"not_sent"`
	Skipped  int     `json:"skipped"`
	Bytes    int64   `json:"bytes"` // of what was stored
	Seconds  float64 `json:"seconds"`
}

func (s *sending) run(cmd *cobra.Command, name string, paths []string) error {
	dialer, err := s.dialer(cmd, name)
	if err != nil {
		return err
	}
	objects, skipped, err := send.Find(cmd.Context(), paths)
	if err != nil {
		return err
	}
	out := lines{w: cmd.OutOrStdout(), json: s.asJSON, verbose: s.verbose, bar: newProgress(cmd.ErrOrStderr(), "objects")}
	for _, skip := range skipped {
		out.skipped(skip)
	}
	if len(objects) == 0 {
		return fmt.Errorf("no DICOM files to send; %d other files were skipped", len(skipped))
	}
	t := tally{Address: s.addr, Objects: len(objects), Skipped: len(skipped)}
	begun := time.Now()
	sender := send.Sender{
		Addr: s.addr, Dialer: dialer, Associations: s.associations, Retries: s.retries,
		Report: func(r send.Result) {
			t.count(r)
			out.result(r)
			out.bar.step(t.done(), t.Objects)
		},
	}
	broken := sender.Send(cmd.Context(), objects)
	t.Seconds = time.Since(begun).Seconds()
	out.summary(&t)
	switch {
	case out.err != nil:
		return out.err
	case broken != nil:
		return broken
	case t.Refused+t.Failed > 0:
		return exitError{fmt.Errorf("%d of %d objects were not stored", t.Refused+t.Failed, t.Objects), exitRefused}
	}
	return nil
}

func (t *tally) count(r send.Result) {
	switch r.Outcome {
	case send.Stored:
		t.Stored++
	case send.Warned:
		t.Warnings++
	case send.Refused:
		t.Refused++
	case send.Failed:
		t.Failed++
	default:
		t.Unsent++
	}
	if r.Outcome <= send.Warned {
		t.Bytes += r.Size
	}
}

func (t *tally) done() int { return t.Stored + t.Warnings + t.Refused + t.Failed + t.Unsent }

// lines writes what a person or a program reads. The first error of the writer stays.
type lines struct {
	w             io.Writer
	json, verbose bool
	bar           *progress
	err           error
}

// sent is an object's line in JSON.
type sent struct {
	Path              string  `json:"path"`
	SOPClassUID       string  `json:"sop_class_uid"`
	SOPInstanceUID    string  `json:"sop_instance_uid"`
	TransferSyntaxUID string  `json:"transfer_syntax_uid"`
	Bytes             int64   `json:"bytes"`
	Outcome           string  `json:"outcome"`
	Status            string  `json:"status,omitempty"`
	StatusText        string  `json:"status_text,omitempty"`
	Comment           string  `json:"comment,omitempty"`
	Error             string  `json:"error,omitempty"`
	Association       int     `json:"association,omitempty"`
	Milliseconds      float64 `json:"milliseconds"`
}

func (l *lines) result(r send.Result) {
	answered := r.Outcome <= send.Refused
	switch {
	case l.json:
		line := sent{
			Path: r.Path, SOPClassUID: string(r.SOPClassUID), SOPInstanceUID: string(r.SOPInstanceUID),
			TransferSyntaxUID: string(r.TransferSyntax.UID), Bytes: r.Size, Outcome: r.Outcome.String(),
			Comment: r.Comment, Association: r.Association, Milliseconds: milliseconds(r.Took),
		}
		if answered {
			line.Status, line.StatusText = r.Status.Code(), r.Status.Name()
		}
		if r.Err != nil {
			line.Error = r.Err.Error()
		}
		l.encode(line)
	case r.Outcome == send.Unsent, r.Outcome == send.Stored && !l.verbose:
	case answered && r.Comment != "":
		l.print("%s: %v: %s\n", r.Path, r.Status, r.Comment)
	case answered:
		l.print("%s: %v\n", r.Path, r.Status)
	default:
		l.print("%s: %v: %v\n", r.Path, r.Outcome, r.Err)
	}
}

func (l *lines) skipped(s send.Skip) {
	switch {
	case l.json:
		l.encode(struct {
			Path    string `json:"path"`
			Skipped string `json:"skipped"`
		}{s.Path, s.Reason.Error()})
	case l.verbose:
		l.print("%s: skipped: %v\n", s.Path, s.Reason)
	}
}

func (l *lines) summary(t *tally) {
	if l.json {
		l.encode(struct {
			Summary *tally `json:"summary"`
		}{t})
		return
	}
	l.print("%s: %d of %d objects stored", t.Address, t.Stored+t.Warnings, t.Objects)
	for _, part := range []struct {
		n    int
		what string
	}{
		{t.Warnings, "with a warning"},
		{t.Refused, "refused"},
		{t.Failed, "failed"},
		{t.Unsent, "not sent"},
		{t.Skipped, "other files skipped"},
	} {
		if part.n > 0 {
			l.print(", %d %s", part.n, part.what)
		}
	}
	const mega = 1e6
	l.print("; %.1f MB in %.1f s, %.0f objects/s\n", float64(t.Bytes)/mega, t.Seconds, float64(t.Stored+t.Warnings)/t.Seconds)
}

func (l *lines) encode(v any) {
	if l.err == nil {
		l.bar.clear()
		l.err = json.NewEncoder(l.w).Encode(v)
	}
}

func (l *lines) print(format string, args ...any) {
	if l.err == nil {
		l.bar.clear()
		_, l.err = fmt.Fprintf(l.w, format, args...)
	}
}
