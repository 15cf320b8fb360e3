package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ichwatch/daemon/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole line on this machine with phantom studies",
		Long: `Runs the real daemon with a simulated scanner, a storage SCP standing in for the
PACS and an embedded MQTT broker, all on free ports of the loopback interface.
The scanner pushes a normal study and one of each hemorrhage subtype; the screen
shows each on its way: sent, stored, forwarded, outcome, alert. Above it stands
the address of the page for the staff, with a login that holds for this run: look
at the slices of an alert there and answer it, or press a here. One that nobody
acknowledges escalates after 20, 40 and 60 seconds. When every alert is acknowledged, n brings the next studies.

The studies are synthetic. What is raised is a suspected finding, not for
diagnosis.`,
		Example: `  ichwatch demo
  ichwatch demo --once           one round that answers its own alerts
  ichwatch demo --once --json    the same, for a script: exit status 0 only if
                                 everything was stored, forwarded byte for byte,
                                 decided, alerted and acknowledged`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.JSON && !o.Once {
				return callError(cmd, fmt.Errorf("--json needs --once: it prints one summary"))
			}
			o.Out = cmd.OutOrStdout()
			o.Version = version
			if f, ok := o.Out.(*os.File); ok {
				o.Live = !o.Once && term.IsTerminal(int(f.Fd()))
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Once, "once", false, "one round, then the verdict")
	f.BoolVar(&o.JSON, "json", false, "print only a JSON summary (with --once)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the first phantom; the same seed gives the same studies")
	f.DurationVar(&o.Pace, "pace", 100*time.Millisecond, "time between two slices of a study")
	f.IntVar(&o.Slices, "slices", 0, "slices of each study (0: as many as cover the head)")
	f.IntVar(&o.Size, "size", 512, "rows and columns of a slice")
	f.StringVar(&o.Library, "onnxruntime", "", "ONNX Runtime library (default: $ICHWATCH_ONNXRUNTIME, beside the binary, or the installed one)")
	f.StringVar(&o.Dir, "dir", "", "keep spool and log here, in a new folder (default: a temporary one, removed at the end unless something failed)")
	return cmd
}
