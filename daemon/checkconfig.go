package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ichwatch/configs"
)

func checkConfigCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "check-config [FILE]",
		Short: "Report every mistake in a configuration file",
		Long: `Reads a configuration as the daemon would and reports every mistake at once,
each with its line, its key, what is wrong and what is allowed. In a file without
mistakes it looks whether the files that it names are there. Exits 0 where it
found nothing wrong.`,
		Example: "  ichwatch check-config /etc/ichwatch/ichwatch.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := defaultConfig
			if len(args) == 1 {
				path = args[0]
			}
			cfg, err := configs.Load(path)
			if err != nil {
				return reported(cmd, err)
			}
			if problems := configs.Check(cfg); len(problems) > 0 {
				return reported(cmd, problems)
			}
			if !quiet {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", path)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing when the file is right")
	return cmd
}

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
		Use:     "config",
		Short:   "Print the reference configuration: every key with its meaning and default",
		Example: "  ichwatch config | less\n  ichwatch config > ichwatch.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(configs.Reference())
			return err
		},
	}
}
