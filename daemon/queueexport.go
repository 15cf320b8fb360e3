package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ichwatch/daemon/spool"
)

// exitIncomplete says that an export lacks something.
const exitIncomplete = 3

func queueExportCommand() *cobra.Command {
	var at place
	var sel selection
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Copy the instances of legs to a folder",
		Long: `Copies the instances of parked legs, or of those in the states of --state, to DIR,
which is made or has to be empty: Part 10 files whose data sets are the very bytes
that arrived, DIR/<study pseudonym>/<name>.dcm, each instance once. DIR/SHA256SUMS
is written last; sha256sum -c reads it. A file whose bytes are not those that
arrived is left out and named.

The spool is not changed, and the legs stay what they are. It works beside the
daemon and without it. The files are about patients: they are readable for their
owner alone.

Exit status: 0 all are there; 1 failed; 2 called wrongly; 3 some are not there.`,
		Example: `  sudo ichwatch queue export /media/usb/parked --destination pacs
  sudo ichwatch queue export /tmp/s --study s-4hxk2mpv7q --state all
  cd /media/usb/parked && sha256sum -c SHA256SUMS`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name the folder to write to, one")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(sel.chosen(cmd), sel.inStates(cmd)); err != nil {
				return err
			}
			r, err := at.reader(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer r.Close() // it was read only
			legs, err := r.Legs(cmd.Context(), sel.LegSelection)
			if err != nil {
				return err
			}
			instances, bytes := instancesOf(legs)
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "to export: %s, %.1f MB\n", count(len(instances), "instance", "instances"), float64(bytes)/1e6)
			if dryRun || len(instances) == 0 {
				return nil
			}
			written, left, err := r.Export(cmd.Context(), instances, args[0])
			if errors.Is(err, spool.ErrNotEmpty) {
				return callError(cmd, err)
			}
			if err != nil {
				return err
			}
			for _, l := range left {
				fmt.Fprintf(out, "not exported: study %s, instance %s: %v\n", l.Instance.Study, l.Instance.SOPInstanceUID, l.Err)
			}
			fmt.Fprintf(out, "%s in %s\n", count(written, "instance", "instances"), args[0])
			if len(left) > 0 {
				return exitError{fmt.Errorf("%d of %d instances were not exported", len(left), len(instances)), exitIncomplete}
			}
			return nil
		},
	}
	at.flags(cmd)
	sel.flags(cmd)
	cmd.Flags().BoolVar(&sel.all, "all", false, "of every destination and study")
	cmd.Flags().StringSliceVar(&sel.states, "state", []string{string(spool.LegParked)}, "in these states only: "+words(legStates))
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "count only")
	return cmd
}

// instancesOf lists the instances of legs, each once, and the bytes of their data sets.
func instancesOf(legs []spool.LegRecord) (instances []spool.Instance, bytes int64) {
	seen := make(map[int64]bool)
	for _, l := range legs {
		if !seen[l.Instance.ID] {
			seen[l.Instance.ID] = true
			instances = append(instances, l.Instance)
			bytes += l.Instance.Size
		}
	}
	return instances, bytes
}
