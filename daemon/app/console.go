package app

import (
	"errors"
	"log/slog"
	"os"

	"ichwatch/configs"
	"ichwatch/daemon/console/users"
	"ichwatch/dimse/tlsprofile"
)

// openConsoleTLS reads the files of console.tls; nil where there are none.
func openConsoleTLS(cfg *configs.Config, log *slog.Logger) (*tlsprofile.Credentials, error) {
	t := cfg.Console.TLS
	if !t.Enabled() {
		return nil, nil
	}
	return tlsprofile.Open(tlsprofile.Files{Certificate: t.CertificateFile, Key: t.KeyFile}, log)
}

// checkConsole looks into the files of the page as the daemon does at its start.
func checkConsole(cfg *configs.Config, log *slog.Logger) (problems configs.Problems) {
	note := func(key string, err error) {
		if err != nil && !errors.Is(err, os.ErrNotExist) { // that, configs.Check has said
			problems = append(problems, configs.Problem{Key: key, Wrong: "cannot be used: " + err.Error(), Err: err})
		}
	}
	if !cfg.Console.Enabled() {
		return nil
	}
	_, err := users.Open(cfg.Console.UsersFile, log)
	note("console.users_file", err)
	_, err = openConsoleTLS(cfg, log)
	note("console.tls", err)
	return problems
}
