package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/app"
)

// hook is app.Options.Hook: nil, but in a test binary that runs as the daemon.
var hook func(step string)

const defaultConfig = "/etc/ichwatch/ichwatch.yaml"

func serveCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Runs the daemon until SIGTERM or SIGINT, then drains: objects under way finish,
idle associations are aborted, what is queued stays in the spool for the next
start. Under systemd it reports readiness, feeds the watchdog, and takes over the
sockets that a socket unit holds open.`,
		Example: "  ichwatch serve --config /etc/ichwatch/ichwatch.yaml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("name the file with --config %s", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configs.Load(path)
			if err != nil {
				return err
			}
			// Before anything is made on the disk. What is left is a model that cannot be loaded, with which the
			// daemon starts and of which it tells.
			if fatal := configs.Check(cfg).Fatal(); len(fatal) > 0 {
				return reported(cmd, cfg.Placed(fatal))
			}
			log, err := newLog(cmd.ErrOrStderr(), cfg.Log)
			if err != nil {
				return err
			}
			sockets, err := activation.Listeners()
			if err != nil {
				return fmt.Errorf("sockets of systemd: %w", err)
			}
			if slices.Contains(sockets, nil) {
				return errors.New("sockets of systemd: ichwatch.socket may hold ListenStream= with ports alone")
			}
			a, err := app.New(cmd.Context(), cfg, app.Options{Log: log, Version: version, Config: path, Hook: hook, Sockets: sockets})
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	return cmd
}

// newLog builds the daemon's logger as the configuration wants it.
func newLog(w io.Writer, c configs.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}
