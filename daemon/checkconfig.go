package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/infer/ensemble"
)

func checkConfigCommand() *cobra.Command {
	var quiet bool
	var path string
	cmd := &cobra.Command{
		Use:   "check-config [FILE]",
		Short: "Report every mistake in a configuration file",
		Long: `Reads a configuration as the daemon would and reports every mistake at once,
each with its line, its key, what is wrong and what is allowed. In a file without
mistakes it looks whether the files that it names are there and fit to use:
certificates with their keys, users, whether ONNX Runtime has the hash that the
file gives, and whether the models are whole and fit each other; it prints what
may be expected of them at the operating point in use. It warns of what is
allowed but seldom meant. Exits 0 where it found nothing wrong. Without FILE it reads ` + defaultConfig + `.`,
		Example: "  ichwatch check-config /etc/ichwatch/ichwatch.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if given := cmd.Flags().Changed("config"); len(args) > 1 || len(args) == 1 && given {
				return errors.New("name one file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				path = args[0]
			}
			cfg, err := configs.Load(path)
			if err != nil {
				return reported(cmd, err)
			}
			problems := configs.Check(cfg)
			insecure, warnings := app.CheckSecurity(cfg)
			problems = append(problems, insecure...)
			var models *ensemble.Ensemble
			if !slices.ContainsFunc(problems, aboutModels) {
				var wrong configs.Problems
				if models, err = app.ReadModels(cfg); errors.As(err, &wrong) {
					problems = append(problems, wrong...)
				}
			}
			if !quiet {
				for _, warning := range slices.Concat(cfg.Warnings(), warnings, app.CheckDecoders(cfg)) {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
				}
			}
			if len(problems) > 0 {
				verdict := reported(cmd, cfg.Placed(problems))
				if !slices.ContainsFunc(problems, func(p configs.Problem) bool { return !p.AboutPage() }) {
					return fmt.Errorf("%w: the daemon starts all the same, without its page", verdict)
				}
				if len(problems.Fatal()) == 0 {
					return fmt.Errorf("%w: the daemon starts all the same, without a model, and studies end as FAILED", verdict)
				}
				return fmt.Errorf("%w: the daemon does not start", verdict)
			}
			if !quiet {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", path)
				describe(cmd.OutOrStdout(), models)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file, as for serve; the same as FILE")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing when the file is right")
	return cmd
}

// describe says what may be expected of the models in use.
func describe(w io.Writer, models *ensemble.Ensemble) {
	if models == nil {
		return
	}
	for _, line := range models.Describe() {
		fmt.Fprintf(w, "%s; suspected, not for diagnosis\n", line)
	}
	if n := len(models.Members); n > 1 {
		fmt.Fprintf(w, "the %d models answer as one; expected figures of them together are not stated\n", n)
	}
}

// aboutModels tells problems with which a model's folder cannot be read.
func aboutModels(p configs.Problem) bool { return strings.HasPrefix(p.Key, "triage.models") }

// reported prints problems one a line, as compilers do, and leaves a short verdict for the end.
func reported(cmd *cobra.Command, err error) error {
	var problems configs.Problems
	if !errors.As(err, &problems) {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), problems)
	if len(problems) == 1 {
		return errors.New("1 problem in the configuration")
	}
	return fmt.Errorf("%d problems in the configuration", len(problems))
}

func configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print the reference configuration: every key with its meaning and default",
		Long: `Prints the reference configuration: every key with its meaning and default. Read
it, and write into ` + defaultConfig + ` only what differs from it.`,
		Example: "  ichwatch config | less",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(configs.Reference())
			return err
		},
	}
}
