package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
)

// place is a spool as a command names it: by the configuration, or by itself.
type place struct {
	config, dir string
	cfg         *configs.Config // nil where it was not read
}

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&p.config, "config", "c", defaultConfig, "configuration, which names the spool")
	cmd.Flags().StringVar(&p.dir, "spool", "", "the spool's `DIR`; the configuration is then not read")
}

// find fills in the directory where the call does not give it.
func (p *place) find(cmd *cobra.Command) error {
	if p.dir != "" {
		return nil
	}
	cfg, err := configs.Load(p.config)
	if err != nil {
		return fmt.Errorf("%w (or name the spool with --spool)", reported(cmd, err))
	}
	p.dir, p.cfg = cfg.Spool.Dir, cfg
	return nil
}

// nowhere reports that the configuration has no destination; false where it was not
// read.
func (p *place) nowhere() bool { return p.cfg != nil && len(p.cfg.Destinations) == 0 }

// nowhereWords say what that means.
const nowhereWords = "no destination is configured: studies are kept here and sent nowhere"

// reader opens the spool for reading, whether or not a daemon holds it.
func (p *place) reader(ctx context.Context, cmd *cobra.Command) (*spool.Reader, error) {
	if err := p.find(cmd); err != nil {
		return nil, err
	}
	return spool.OpenReader(ctx, p.dir)
}

// format is the form of an output.
type format string

const (
	formatTable format = "table"
	formatCSV   format = "csv"
	formatJSON  format = "json"
)

func (f *format) flag(cmd *cobra.Command, allowed ...format) {
	*f = allowed[0]
	cmd.Flags().StringVar((*string)(f), "format", string(allowed[0]), "one of "+words(allowed))
}

func (f format) check(cmd *cobra.Command, allowed ...format) error {
	if !slices.Contains(allowed, f) {
		return callError(cmd, fmt.Errorf("--format %s: wanted is one of %s", f, words(allowed)))
	}
	return nil
}

func words[S ~string](all []S) string {
	var out []string
	for _, one := range all {
		out = append(out, string(one))
	}
	return strings.Join(out, ", ")
}

// moments are what --since understands besides a span.
var moments = []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// parseSince reads a point in time, or how long ago it was: 90m, 24h, 7d.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+"\n", "%d\n", &n); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if span, err := time.ParseDuration(text); err == nil && span >= 0 {
		return now.Add(-span), nil
	}
	for _, layout := range moments {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--since %q: wanted is a span (90m, 24h, 7d) or a time (2006-01-02, 2006-01-02 15:04, RFC 3339)", text)
}

// studyFilter selects a study by its UID or its pseudonym.
func studyFilter(name string) (f spool.Filter) {
	if strings.HasPrefix(name, "s-") {
		f.Pseudonym = name
	} else {
		f.Study = dicom.UID(name)
	}
	return f
}
