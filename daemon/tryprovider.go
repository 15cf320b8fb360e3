package main

import (
	"github.com/spf13/cobra"

	"ichwatch/daemon/app"
	"ichwatch/infer/onnx"
)

// tryProviderCommand is the process in which a provider proves itself. The daemon starts it.
func tryProviderCommand() *cobra.Command {
	return &cobra.Command{
		Use:    app.TrialCommand,
		Short:  "Make the trial of a provider that stands on standard input",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onnx.Answer(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
