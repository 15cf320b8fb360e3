package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ichwatch/daemon/control"
	"ichwatch/daemon/spool"
)

func queueCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "See and change what waits for the destinations",
		Long: `A leg is the way of one instance to one destination. It is pending until the
destination has the instance; sent while the destination, where it has to, has not
committed itself to keeping it; parked where the destination has refused it for
good, or where a person has parked it; and then done.

What is parked is kept, and never removed, until it is done. What a destination has
refused is tried again at every start of the daemon, when the scanner sends it
again, and by queue retry; what a person has parked by queue retry alone.`,
		Example: `  sudo ichwatch queue list
  sudo ichwatch queue retry --destination pacs
  sudo ichwatch queue export /media/usb/parked --destination pacs`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(queueListCommand(), queueRetryCommand(), queueParkCommand(), queueExportCommand())
	return cmd
}

// selection is which legs a command means.
type selection struct {
	spool.LegSelection
	all    bool
	states []string
}

func (s *selection) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.Destination, "destination", "d", "", "to this `NAME` only")
	cmd.Flags().StringVar(&s.Study, "study", "", "of this study only: its `UID` or its pseudonym")
	cmd.Flags().Int64SliceVar(&s.Legs, "leg", nil, "these only, by the `ID` that queue list --each shows")
}

// chosen demands that a command which does something was told to what.
func (s *selection) chosen(cmd *cobra.Command) error {
	named := s.Destination != "" || s.Study != "" || len(s.Legs) > 0
	switch {
	case !named && !s.all:
		return callError(cmd, errors.New("say which legs: --destination, --study, --leg, or --all"))
	case named && s.all:
		return callError(cmd, errors.New("--all goes with no other choice"))
	}
	return nil
}

// legStates are the words of --state.
var legStates = []string{string(spool.LegPending), string(spool.LegSent), string(spool.LegParked), string(spool.LegDone), "all"}

// inStates narrows the selection to what --state says.
func (s *selection) inStates(cmd *cobra.Command) error {
	s.States = nil
	for _, state := range s.states {
		switch {
		case !slices.Contains(legStates, state):
			return callError(cmd, fmt.Errorf("--state %s: wanted is one of %s", state, words(legStates)))
		case state == "all":
			s.States = nil
			return nil
		}
		s.States = append(s.States, spool.LegState(state))
	}
	return nil
}

// change is a call of queue retry or park.
type change struct {
	place
	selection
	dryRun, yes bool
	reason      string
}

func (c *change) flags(cmd *cobra.Command) {
	c.place.flags(cmd)
	c.selection.flags(cmd)
	cmd.Flags().BoolVar(&c.all, "all", false, "of every destination and study")
	cmd.Flags().BoolVarP(&c.dryRun, "dry-run", "n", false, "count only")
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask")
}

func queueRetryCommand() *cobra.Command {
	var c change
	cmd := &cobra.Command{
		Use:   "retry",
		Short: "Try legs again at once",
		Long: `Makes parked legs, and those that wait after a failure, due at once, as if they
had never failed, and ends the daemon's own waiting for the destination. It says
how many they are and asks before it does so. It needs the running daemon.

Exit status: 0 done, also where there was nothing to do; 1 failed, or the daemon
does not run; 2 called wrongly, or not confirmed.`,
		Example: `  sudo ichwatch queue retry --destination pacs --dry-run
  sudo ichwatch queue retry --study s-4hxk2mpv7q
  sudo ichwatch queue retry --all --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, "retry", func(l spool.LegRecord) bool {
				return l.State == spool.LegParked || l.State != spool.LegDone && !l.NextAttempt.IsZero()
			},
				func(ctx context.Context, d *control.Client) (control.Changed, error) {
					return d.Retry(ctx, control.Retry{Select: c.LegSelection})
				})
		},
	}
	c.flags(cmd)
	return cmd
}

func queueParkCommand() *cobra.Command {
	var c change
	cmd := &cobra.Command{
		Use:   "park",
		Short: "Keep legs back",
		Long: `Parks pending legs: the daemon does not try them until queue retry, through every
start. What it is sending at this moment still arrives. It says how many legs they
are and asks before it does so. It needs the running daemon.

Exit status: 0 done, also where there was nothing to do; 1 failed, or the daemon
does not run; 2 called wrongly, or not confirmed.`,
		Example: `  sudo ichwatch queue park --study s-4hxk2mpv7q --reason "wrong worklist entry, see ticket 4711"
  sudo ichwatch queue park --destination archive --reason "moved to new storage until Monday"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reason, err := parkReason(c.reason)
			if err != nil {
				return callError(cmd, err)
			}
			return c.run(cmd, "park", func(l spool.LegRecord) bool { return l.State == spool.LegPending },
				func(ctx context.Context, d *control.Client) (control.Changed, error) {
					return d.Park(ctx, control.Park{Select: c.LegSelection, Reason: reason})
				})
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for whoever looks at it next; must be given; no patient's identity")
	return cmd
}

const maxReason = 200

// parkReason is what the list shows, with who said so.
func parkReason(text string) (string, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return "", errors.New("say why, with --reason")
	case utf8.RuneCountInString(text) > maxReason || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("--reason: wanted are at most %d printable characters", maxReason)
	}
	return fmt.Sprintf("parked by %s: %s", whoami(), text), nil
}

// whoami is the person at the keyboard, as far as the machine knows.
func whoami() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "somebody"
}

// run counts what a change is about, asks, and has the daemon do it.
func (c *change) run(cmd *cobra.Command, verb string, concerns func(spool.LegRecord) bool,
	do func(context.Context, *control.Client) (control.Changed, error),
) error {
	if err := c.chosen(cmd); err != nil {
		return err
	}
	r, err := c.reader(cmd.Context(), cmd)
	if err != nil {
		return err
	}
	legs, err := r.Legs(cmd.Context(), c.LegSelection)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	counts := control.Changed{}
	for _, l := range legs {
		if concerns(l) {
			counts[l.Destination]++
		}
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "to %s: %s\n", verb, describeCounts(counts))
	if c.dryRun || len(counts) == 0 && verb == "park" {
		return nil
	}
	if !c.yes {
		if err := confirm(cmd, verb); err != nil {
			return err
		}
	}
	changed, err := do(cmd.Context(), control.NewClient(c.dir))
	if errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("%w, and nothing was changed; start it (sudo systemctl start ichwatch): each start tries what destinations have refused", err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "done: %s\n", describeCounts(changed))
	return err
}

func describeCounts(counts map[string]int) string {
	if len(counts) == 0 {
		return "no legs"
	}
	var parts []string
	for _, destination := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, count(counts[destination], "leg", "legs")+" to "+destination)
	}
	return strings.Join(parts, ", ")
}

// confirm asks on a terminal. Elsewhere --yes has to be said.
func confirm(cmd *cobra.Command, verb string) error {
	f, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return callError(cmd, errors.New("nothing was changed: there is no terminal to ask at; say --yes"))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s them? [y/N] ", strings.ToUpper(verb[:1])+verb[1:])
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return callError(cmd, errors.New("nothing was changed"))
	}
	return nil
}
