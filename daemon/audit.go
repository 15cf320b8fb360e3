package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/audit"
)

// exitBroken is the exit status of a trail that is not what was written.
const exitBroken = 3

func auditCommand() *cobra.Command {
	var config, file string
	open := func() (*os.File, error) {
		if file == "" {
			cfg, err := configs.Load(config)
			if err != nil {
				return nil, err
			}
			file = filepath.Join(cfg.Spool.Dir, audit.Name)
		}
		return os.Open(file)
	}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify or export the trail of what people did",
		Long: `Reads the trail of what people did: who came in, opened a study, answered an
alert, gave a verdict. Each line carries the hash of the one before; a change, a
gap or an insertion anywhere breaks the chain, and the exit status is then ` + fmt.Sprint(exitBroken) + `.`,
		Example: `  sudo ichwatch audit verify
  sudo ichwatch audit export --format csv --since 720h > trail.csv`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVarP(&config, "config", "c", defaultConfig, "configuration file, beside whose spool the trail lies")
	f.StringVar(&file, "file", "", "the trail itself, or a copy of it")
	cmd.AddCommand(auditVerifyCommand(open), auditExportCommand(open))
	return cmd
}

func auditVerifyCommand(open func() (*os.File, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Follow the chain from its first line to its last",
		Long: `Follows the chain from its first line to its last and prints its head. That the end
was cut off no chain can show: compare the head with one noted before, as the
daemon's log has it of every start.`,
		Example: "  sudo ichwatch audit verify",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := open()
			if err != nil {
				return err
			}
			defer in.Close()
			r, err := audit.Verify(in)
			if err != nil {
				return broken(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d records, whole; head %s\n", r.Records, r.Head)
			if r.Torn > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%d lines were not finished when they were written, each told of by the next\n", r.Torn)
			}
			return nil
		},
	}
}

func auditExportCommand(open func() (*os.File, error)) *cobra.Command {
	var format string
	var since time.Duration
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Print the trail, as it is or as a table",
		Example: "  sudo ichwatch audit export --format csv > trail.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := open()
			if err != nil {
				return err
			}
			defer in.Close()
			switch {
			case format == "json" && since > 0:
				return callError(cmd, errors.New("--since needs --format csv: a part of the chain could not be verified"))
			case format == "json": // the very lines
				r := io.TeeReader(in, cmd.OutOrStdout())
				_, err = audit.Verify(r)
				return errors.Join(broken(err), drain(r))
			case format != "csv":
				return callError(cmd, errors.New("--format is json or csv"))
			}
			write, flush := audit.CSV(cmd.OutOrStdout())
			after := time.Time{}
			if since > 0 {
				after = time.Now().Add(-since)
			}
			_, err = audit.Each(in, func(r audit.Record) error {
				if r.At.Before(after) {
					return nil
				}
				return write(r)
			})
			return errors.Join(broken(err), flush())
		},
	}
	cmd.Flags().StringVar(&format, "format", "json", "json (the lines as they are, which audit verify understands) or csv (for people)")
	cmd.Flags().DurationVar(&since, "since", 0, "with csv: only what is younger than this")
	return cmd
}

// broken gives a broken chain its exit status.
func broken(err error) error {
	if errors.Is(err, audit.ErrBroken) {
		return exitError{err, exitBroken}
	}
	return err
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// own gives a file to who owns a folder, where we may.
func own(path, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
