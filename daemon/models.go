package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/daemon/control"
	"ichwatch/infer"
	"ichwatch/infer/ensemble"
	"ichwatch/infer/manifest"
	"ichwatch/infer/service"
)

func modelsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "See, verify and exchange the models in service",
		Long: `A model is a folder in triage.models_dir, or one that the package brought. One
answers, or several as an ensemble: those of triage.models until others are activated
here.

What is activated is verified (hash, and signature where triage.models_public_key
asks for one), loaded beside what runs, tried on phantom slices with known truth,
and then exchanged between two slices; studies under way are seen whole by the new
one. It holds through restarts, until triage.models or triage.operating_point is
changed in the configuration. The way back is models rollback; the daemon goes it by
itself where the daily trial (canary) finds other answers than at the activation.

What models say is a suspected finding, not for diagnosis.`,
		Example: `  sudo ichwatch models list
  sudo ichwatch models verify north
  sudo ichwatch models activate north
  sudo ichwatch models rollback`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(modelsListCommand(), modelsVerifyCommand(), modelsActivateCommand(), modelsRollbackCommand(), modelsRelearnCommand())
	return cmd
}

// modelRoom is where models are, as the configuration says.
type modelRoom struct {
	config   string
	cfg      *configs.Config
	verifier service.Verifier
}

func (r *modelRoom) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&r.config, "config", "c", defaultConfig, "configuration, which names the models' folder")
}

func (r *modelRoom) open(cmd *cobra.Command) (err error) {
	if r.cfg, err = configs.Load(r.config); err != nil {
		return reported(cmd, err)
	}
	r.verifier, err = service.NewVerifier(r.cfg.Triage.PublicKey)
	return err
}

// shippedModels is where the package puts the models that come with ichwatch.
const shippedModels = "/usr/share/ichwatch/models"

// folder is the path of a model that is named by its folder in triage.models_dir or among those that the package brought,
// or by a path.
func (r *modelRoom) folder(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return filepath.Abs(name)
	}
	dir := filepath.Join(r.cfg.Triage.Folder, name)
	if shipped := filepath.Join(shippedModels, name); !hasManifest(dir) && hasManifest(shipped) {
		return shipped, nil
	}
	return dir, nil
}

func hasManifest(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, manifest.FileName))
	return err == nil
}

func (r *modelRoom) folders(names []string) (out []string, err error) {
	for _, name := range names {
		dir, err := r.folder(name)
		if err != nil {
			return nil, err
		}
		out = append(out, dir)
	}
	return out, nil
}

func (r *modelRoom) client() *control.Client { return control.NewClient(r.cfg.Spool.Dir) }

// modelRow is a line of models list; the form of --format json.
type modelRow struct {
	Folder          string          `json:"folder"`
	Model           *infer.ModelRef `json:"model,omitempty"`
	Architecture    string          `json:"architecture,omitempty"`
	State           string          `json:"state"` // active, previous, configured, or empty
	Signature       string          `json:"signature"`
	OperatingPoints []string        `json:"operating_points,omitempty"`
	Problem         string          `json:"problem,omitempty"`
}

const (
	notAsked = "not asked for"
	verified = "verified"
	refused  = "refused"
)

func modelsListCommand() *cobra.Command {
	var r modelRoom
	var as format
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the models, and which of them answer",
		Long: `Lists the models of triage.models_dir, those that the package brought, and those in
use elsewhere, each verified as before an activation. Exit status: 0, also where a model has a problem; 1 where the
list cannot be made.`,
		Example: `  sudo ichwatch models list
  sudo ichwatch models list --format json | jq -r '.[] | select(.state == "active").folder'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := as.check(cmd, formatTable, formatJSON); err != nil {
				return err
			}
			if err := r.open(cmd); err != nil {
				return err
			}
			rows, err := r.list(cmd.Context())
			if err != nil {
				return err
			}
			if as == formatJSON {
				return writeJSON(cmd.OutOrStdout(), rows)
			}
			return writeModels(cmd.OutOrStdout(), rows)
		},
	}
	r.flags(cmd)
	as.flag(cmd, formatTable, formatJSON)
	return cmd
}

// list verifies every model there is.
func (r *modelRoom) list(ctx context.Context) ([]modelRow, error) {
	active, previous, err := r.chosen(ctx)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, folder := range []string{r.cfg.Triage.Folder, shippedModels} {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for models: %w", err)
		}
		for _, e := range entries {
			if dir := filepath.Join(folder, e.Name()); !strings.HasPrefix(e.Name(), ".") && hasManifest(dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	for _, dir := range slices.Concat(active, previous, r.cfg.Triage.Models) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	rows := []modelRow{}
	for _, dir := range dirs {
		row := r.row(dir)
		switch {
		case slices.Contains(active, dir):
			row.State = "active"
		case slices.Contains(previous, dir):
			row.State = "previous"
		case slices.Contains(r.cfg.Triage.Models, dir):
			row.State = "configured"
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// chosen asks the daemon what is active or, where none runs, the file that the next one will read.
func (r *modelRoom) chosen(ctx context.Context) (active, previous []string, err error) {
	selection, err := service.ReadSelection(app.StateDir(r.cfg), app.Choice(r.cfg.Triage))
	if err != nil {
		return nil, nil, err
	}
	active = r.cfg.Triage.Models
	if selection != nil {
		active = selection.Active.Models
		if selection.Previous != nil {
			previous = selection.Previous.Models
		}
	}
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if status, err := r.client().Status(asking); err == nil {
		active = status.Model.Folders
	}
	return active, previous, nil
}

func (r *modelRoom) row(dir string) modelRow {
	row := modelRow{Folder: dir, Signature: notAsked}
	m, err := r.verifier.Load(dir)
	if err != nil {
		row.Problem = oneLine(err.Error())
		if r.verifier.Demands() && (errors.Is(err, service.ErrUnsigned) || errors.Is(err, service.ErrSignature)) {
			row.Signature = refused
		}
		return row
	}
	if r.verifier.Demands() {
		row.Signature = verified
	}
	ref := m.Ref()
	row.Model, row.Architecture = &ref, m.Architecture
	for _, p := range m.OperatingPoints {
		row.OperatingPoints = append(row.OperatingPoints, p.Name)
	}
	return row
}

func writeModels(out io.Writer, rows []modelRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, "no models")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FOLDER\tSTATE\tMODEL\tSIGNATURE\tOPERATING POINTS")
	for _, row := range rows {
		state := row.State
		if state == "" {
			state = "-"
		}
		if row.Model == nil {
			fmt.Fprintf(w, "%s\t%s\tCANNOT BE USED: %s\n", row.Folder, state, row.Problem)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", row.Folder, state, row.Model, row.Signature, strings.Join(row.OperatingPoints, ", "))
	}
	return w.Flush()
}

func modelsVerifyCommand() *cobra.Command {
	var r modelRoom
	var point string
	cmd := &cobra.Command{
		Use:   "verify [MODEL...]",
		Short: "Verify models, without bringing them into service",
		Long: `Verifies models as an activation does before it loads them: the manifest, the hash
of the file, what the file declares and, where triage.models_public_key names a key,
the signature; of several, also whether they can answer together. MODEL is a folder
in triage.models_dir or one that the package brought, by its name, or a path; without
any, each that there is is verified by itself. It prints what may be expected of them.

Exit status: 0 all can be used; 1 one cannot.`,
		Example: `  sudo ichwatch models verify
  sudo ichwatch models verify resnet18 densenet121 --operating-point sensitive
  ichwatch models verify ./north`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.open(cmd); err != nil {
				return err
			}
			return r.verify(cmd, args, point)
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&point, "operating-point", "", "`NAME` of the operating point; default the models' own")
	return cmd
}

func (r *modelRoom) verify(cmd *cobra.Command, names []string, point string) error {
	out := cmd.OutOrStdout()
	if len(names) == 0 {
		rows, err := r.list(cmd.Context())
		if err != nil {
			return err
		}
		bad := 0
		for _, row := range rows {
			if row.Problem != "" {
				bad++
				fmt.Fprintf(out, "%s: CANNOT BE USED: %s\n", row.Folder, row.Problem)
				continue
			}
			fmt.Fprintf(out, "%s: ok, %s, signature %s\n", row.Folder, row.Model, row.Signature)
		}
		if bad > 0 {
			return fmt.Errorf("%s cannot be used", count(bad, "model", "models"))
		}
		return nil
	}
	dirs, err := r.folders(names)
	if err != nil {
		return err
	}
	var members []*manifest.Manifest
	for _, dir := range dirs {
		m, err := r.verifier.Load(dir)
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	e, err := ensemble.New(point, members...)
	if err != nil {
		return err
	}
	signature := notAsked
	if r.verifier.Demands() {
		signature = verified
	}
	fmt.Fprintf(out, "ok, signature %s\n", signature)
	describe(out, e)
	return nil
}

func modelsActivateCommand() *cobra.Command {
	var r modelRoom
	var point string
	var force bool
	cmd := &cobra.Command{
		Use:   "activate MODEL...",
		Short: "Bring models into service in the place of those that answer",
		Long: `Has the daemon verify models, load them beside those that answer, try them on
phantom slices with known truth, and exchange them; several answer as one. Where
anything is in the way nothing changes. No slice is lost: what is under way ends with
the model that it began with, and studies that are not decided yet are seen whole by
the new one. MODEL is a folder in triage.models_dir, or a path.

Where the daemon does not run, the models are verified only, and the next start
brings them into service or, where it cannot, those before them.

Exit status: 0 done; 1 refused, nothing has changed; 2 called wrongly.`,
		Example: `  sudo ichwatch models activate north
  sudo ichwatch models activate resnet18 densenet121 --operating-point sensitive`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.open(cmd); err != nil {
				return err
			}
			dirs, err := r.folders(args)
			if err != nil {
				return err
			}
			return r.change(cmd, func(ctx context.Context, c *control.Client) (control.ModelChange, error) {
				return c.ActivateModels(ctx, control.Activate{Models: dirs, OperatingPoint: point, Force: force})
			}, func(state string, configured service.Choice) (service.Change, error) {
				return service.Choose(state, configured, r.verifier, service.Choice{Models: dirs, Point: point})
			})
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&point, "operating-point", "", "`NAME` of the operating point; default the models' own")
	cmd.Flags().BoolVar(&force, "force", false, "also models that do not tell phantom slices with a bleed from those without")
	return cmd
}

func modelsRollbackCommand() *cobra.Command {
	var r modelRoom
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Bring back the models that answered before",
		Long: `Brings back, in the same way as models activate, what was in service before the last
activation. Once more, and it is undone. Where the daemon went back by itself, because
the models that were activated failed their trial, there is no way back to those but
models activate.

Exit status: 0 done; 1 refused, or there is nothing to go back to.`,
		Example: "  sudo ichwatch models rollback",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.open(cmd); err != nil {
				return err
			}
			return r.change(cmd, func(ctx context.Context, c *control.Client) (control.ModelChange, error) {
				return c.RollBackModels(ctx)
			}, func(state string, configured service.Choice) (service.Change, error) {
				return service.ChoosePrevious(state, configured, r.verifier)
			})
		},
	}
	r.flags(cmd)
	return cmd
}

// change has the daemon exchange models or, where none runs, writes down what the next one is to begin with.
func (r *modelRoom) change(cmd *cobra.Command, ask func(context.Context, *control.Client) (control.ModelChange, error),
	write func(state string, configured service.Choice) (service.Change, error),
) error {
	out := cmd.OutOrStdout()
	change, err := ask(cmd.Context(), r.client())
	if err == nil {
		for _, warning := range change.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
		}
		_, err = fmt.Fprintf(out, "active: %s; before: %s\ntried: %s\n", together(change.Active), together(change.Previous), change.Canary)
		return err
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	if !r.cfg.Triage.Enabled || len(r.cfg.Triage.Models) == 0 {
		return errors.New("the configuration wants no model (triage.enabled, triage.models)")
	}
	if _, err := os.Stat(r.cfg.Spool.Dir); err != nil {
		return fmt.Errorf("the daemon has never run here: %w", err)
	}
	chosen, err := write(app.StateDir(r.cfg), app.Choice(r.cfg.Triage))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "the daemon does not run; active from its next start, which tries them: %s\n", chosen.Active)
	return err
}

func together(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " and ")
}

func modelsRelearnCommand() *cobra.Command {
	var r modelRoom
	cmd := &cobra.Command{
		Use:   "relearn",
		Short: "Learn anew what studies are usual",
		Long: `Has the daemon forget what it has learned of usual studies, and the alarms of drift
with it: after a change that was meant, as of the scanner or its protocols. It learns
from the next triage.drift_studies studies. The daemon must run.`,
		Example: "  sudo ichwatch models relearn",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.open(cmd); err != nil {
				return err
			}
			if err := r.client().Relearn(cmd.Context()); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "what is usual is learned from the next %d studies\n", r.cfg.Triage.DriftStudies)
			return err
		},
	}
	r.flags(cmd)
	return cmd
}
