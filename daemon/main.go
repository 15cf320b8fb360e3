// Command ichwatch stands beside a CT console: it receives studies over DICOM, makes them durable, forwards them
// unchanged to the PACS, looks at each head slice for intracranial hemorrhage and alerts people until one answers.
//
// This package is the command line and nothing else; package app is the daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker (see Makefile).
var version = "0.1.0-dev"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its surroundings as arguments. The exit codes: 0 done; 1 failed; 2 called wrongly; 3 done in part, see
// exitRefused, exitUnbalanced, exitIncomplete and exitBroken. Those of status are level.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once, should draining take too long for somebody

	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.error != nil {
			fmt.Fprintf(stderr, "ichwatch: %v\n", err)
		}
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "ichwatch: %v\n", err)
		return 2
	default:
		fmt.Fprintf(stderr, "ichwatch: %v\n", err)
		return 1
	}
}

// usageError marks a mistake in the call, not in the work.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError has an exit code of its own; without an error all is said already.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// Error implements error.
func (e exitError) Error() string {
	if e.error == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.error.Error()
}

// exitRefused says that the peer was there and did not take everything.
const exitRefused = 3

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ichwatch",
		Short: "Watches CT studies for intracranial hemorrhage on their way to the PACS",
		Long: `ichwatch receives studies from a CT scanner over DICOM, makes them durable,
forwards them unchanged to the PACS, classifies each head slice, and publishes
alerts over MQTT until a person acknowledges them.

What it raises is a suspected finding, not for diagnosis. It is not a medical
device.`,
		Example: `  ichwatch demo                                   the whole line on this machine
  ichwatch check-config /etc/ichwatch/ichwatch.yaml
  ichwatch serve --config /etc/ichwatch/ichwatch.yaml
  ichwatch send pacs.example.org:104 --called PACS DIR`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("ichwatch {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		serveCommand(), demoCommand(), phantomCommand(), assessCommand(), adaptCommand(),
		statusCommand(), ledgerCommand(), queueCommand(), modelsCommand(), runtimeCommand(), checkConfigCommand(), configCommand(), hashPasscodeCommand(), userCommand(), auditCommand(),
		sendCommand(), echoCommand(), conformanceCommand(), versionCommand(), manCommand(), tryProviderCommand(),
	)
	markUsageErrors(root)
	return root
}

// versionCommand is --version for those who look for a command.
func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "version",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "ichwatch %s\n", version)
			return err
		},
	}
}

// noSuchCommand refuses what cobra did not find among the commands, with those that resemble it.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", args[0])
	cmd.SuggestionsMinimumDistance = 2 // letters
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
	}
	return err
}

// markUsageErrors makes every command tell mistakes in flags and arguments from failures, and point to its help.
func markUsageErrors(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return callError(c, err) })
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return callError(c, err)
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		markUsageErrors(c)
	}
}

func callError(c *cobra.Command, err error) error {
	err = usageError{fmt.Errorf("%w\nTry '%s --help'", err, c.CommandPath())}
	if c.Annotations[usageIsUnknown] != "" {
		return exitError{err, int(levelUnknown)}
	}
	return err
}

// usageIsUnknown annotates a command whose exit statuses are those of a monitoring
// plugin: 2 would read as CRITICAL.
const usageIsUnknown = "usage is unknown"
