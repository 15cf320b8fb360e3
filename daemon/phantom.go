package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ichwatch/daemon/phantom"
)

func phantomCommand() *cobra.Command {
	o := phantom.SetOptions{}
	var classes []string
	cmd := &cobra.Command{
		Use:   "phantom DIR",
		Short: "Write synthetic head CT studies with their truth",
		Long: `Writes synthetic non-contrast head CT studies, normal and with each subtype of
hemorrhage, as CT Image Storage below DIR: DIR/<class>-<n>/IM0001.dcm and so on,
with DIR/labels.csv (one row a slice) and DIR/studies.csv (one row a study) beside
them. The same seed writes the same studies. They show no person.`,
		Example: `  ichwatch phantom studies                            one study of each class
  ichwatch phantom studies --studies 20 --seed 7      a set of 120
  ichwatch phantom bleeds --class epidural,subdural
  ichwatch send localhost:11112 studies/normal-0001 --called ICHWATCH`,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("name the folder to write to")
			case 1:
				return nil
			}
			return errors.New("name one folder to write to")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range classes {
				c, err := phantom.ParseClass(name)
				if err != nil {
					return callError(cmd, err)
				}
				o.Classes = append(o.Classes, c)
			}
			// A half-written set beside an older one would have labels that belong to neither.
			if holdsSomething(args[0]) {
				return fmt.Errorf("%s is not empty; name a new folder", args[0])
			}
			bar := newProgress(cmd.ErrOrStderr(), "slices")
			if err := phantom.WriteSet(cmd.Context(), args[0], o, bar.step); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d slices, truth in labels.csv and studies.csv\n", args[0], bar.total)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVarP(&o.Studies, "studies", "n", 1, "studies of each class")
	f.StringSliceVar(&classes, "class", nil, "classes to write (default all): "+classNames())
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the set")
	f.IntVar(&o.Slices, "slices", 0, "slices of each study (0: as many as cover the head)")
	f.IntVar(&o.Rows, "rows", 512, "rows of a slice")
	f.IntVar(&o.Columns, "columns", 512, "columns of a slice")
	f.BoolVar(&o.Plain, "plain", false, "no rare artefacts (motion, metal, air after an operation)")
	f.IntVar(&o.Workers, "workers", 0, "slices rendered at a time (0: as many as there are cores)")
	return cmd
}

// holdsSomething reports whether dir is a folder with something in it.
func holdsSomething(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

func classNames() string {
	var names []string
	for _, c := range phantom.Classes() {
		names = append(names, c.String())
	}
	return strings.Join(names, ", ")
}

// progress is a bar on a terminal and nothing elsewhere.
type progress struct {
	w           *os.File
	what        string
	done, total int
}

func newProgress(w any, what string) *progress {
	p := &progress{what: what}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w = f
	}
	return p
}

func (p *progress) step(done, total int) {
	p.done, p.total = done, total
	if p.w == nil {
		return
	}
	const cells = 30
	full := cells * done / max(total, 1)
	end := ""
	if done == total {
		end = "\n"
	}
	fmt.Fprintf(p.w, "\r%s%s %d/%d %s%s", strings.Repeat("█", full), strings.Repeat("░", cells-full), done, total, p.what, end)
}

// clear makes room for a line; the next step draws the bar again.
func (p *progress) clear() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
