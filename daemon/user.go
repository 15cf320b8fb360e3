package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	osuser "os/user"
	"path/filepath"

	"github.com/spf13/cobra"

	"ichwatch/configs"
	"ichwatch/daemon/audit"
	"ichwatch/daemon/console/users"
)

// userFile finds the file of users, and the trail that changes to it go into.
type userFile struct{ config, file string }

func (u *userFile) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVarP(&u.config, "config", "c", defaultConfig, "configuration file, whose console.users_file is meant")
	f.StringVar(&u.file, "file", "", "the file of users itself, in place of the configuration's")
}

// find returns the file of users and the spool's directory, "" where that is not
// known.
func (u *userFile) find() (file, spoolDir string, err error) {
	cfg, err := configs.Load(u.config)
	switch {
	case err == nil && cmp.Or(u.file, cfg.Console.UsersFile) == "":
		return "", "", fmt.Errorf("%s names no console.users_file: put one there, as /etc/ichwatch/page-users, or name it with --file", u.config)
	case err == nil:
		return cmp.Or(u.file, cfg.Console.UsersFile), cfg.Spool.Dir, nil
	case u.file != "":
		return u.file, "", nil
	}
	return "", "", err
}

// change does something to the file of users and tells the trail of it.
func (u *userFile) change(event audit.Event, name, detail string, do func(file string) error) error {
	file, spoolDir, err := u.find()
	if err != nil {
		return err
	}
	if err := do(file); err != nil {
		return err
	}
	if _, err := os.Stat(spoolDir); spoolDir == "" || err != nil {
		return nil // the daemon has never run here
	}
	trail, err := openTrailAs(spoolDir)
	if err != nil {
		return fmt.Errorf("done, but not told to the audit trail: %w", err)
	}
	defer trail.Close()
	return trail.Append(audit.Record{Event: event, By: operator(), Via: "command", Detail: name + " " + detail, Result: audit.Done})
}

// openTrailAs opens the trail beside a spool. One that root begins belongs to who
// owns the spool.
func openTrailAs(spoolDir string) (*audit.Trail, error) {
	path := filepath.Join(spoolDir, audit.Name)
	trail, err := audit.Open(path)
	if errors.Is(err, audit.ErrBroken) {
		return trail, nil // which audit verify says
	}
	if err == nil {
		err = own(path, spoolDir)
	}
	return trail, err
}

// operator is who runs this command, through sudo as well.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := osuser.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

func userCommand() *cobra.Command {
	var u userFile
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Say who may use the page",
		Long: `Changes the file of those who may log in to the page (console.users_file). What it
says holds at once: who is removed, or given another password or role, is logged
out. Passwords are read from the terminal or from standard input, never from the
command line, and kept as hashes (Argon2id).

Roles: display      a screen on the wall: the list, and nothing else
       reader       on call: studies, and answers to alerts
       technician   studies, and how the device is
       admin        all of it, and the audit trail`,
		Example: `  sudo ichwatch user add anna --role reader
  sudo ichwatch user list
  pwgen 20 1 | sudo ichwatch user passwd anna`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	u.flags(cmd)
	cmd.AddCommand(userAddCommand(&u), userPasswdCommand(&u), userRemoveCommand(&u), userListCommand(&u))
	return cmd
}

// oneUser is the argument of most of them.
func oneUser(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("name one user, and nothing else: the password is asked for, or read from the standard input")
	}
	return nil
}

func userAddCommand(u *userFile) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:     "add NAME",
		Short:   "Let somebody in",
		Example: "  sudo ichwatch user add anna --role reader",
		Args:    oneUser,
		RunE: func(cmd *cobra.Command, args []string) error {
			return u.change(audit.UserAdded, args[0], role, func(file string) error {
				r, err := users.ParseRole(role)
				if err != nil {
					return callError(cmd, err)
				}
				user, err := newUser(cmd, args[0], r)
				if err != nil {
					return err
				}
				return users.Add(file, user)
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", string(users.Reader), "display, reader, technician or admin")
	return cmd
}

func userPasswdCommand(u *userFile) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:     "passwd NAME",
		Short:   "Give somebody another password, or with --role another role as well",
		Example: "  sudo ichwatch user passwd anna",
		Args:    oneUser,
		RunE: func(cmd *cobra.Command, args []string) error {
			return u.change(audit.UserChanged, args[0], role, func(file string) error {
				all, err := users.Read(file)
				if err != nil {
					return err
				}
				for _, before := range all {
					if before.Name != args[0] {
						continue
					}
					r, err := users.ParseRole(cmp.Or(role, string(before.Role)))
					if err != nil {
						return callError(cmd, err)
					}
					user, err := newUser(cmd, args[0], r)
					if err != nil {
						return err
					}
					return users.Replace(file, user)
				}
				return fmt.Errorf("%s: %w", file, users.ErrUnknown)
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "another role as well")
	return cmd
}

func newUser(cmd *cobra.Command, name string, role users.Role) (users.User, error) {
	password, err := readPasscode(cmd.InOrStdin(), cmd.ErrOrStderr())
	if err != nil {
		return users.User{}, fmt.Errorf("read the password: %w", err)
	}
	return users.New(name, role, password)
}

func userRemoveCommand(u *userFile) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Let somebody in no more",
		Example: "  sudo ichwatch user remove anna",
		Args:    oneUser,
		RunE: func(_ *cobra.Command, args []string) error {
			return u.change(audit.UserRemoved, args[0], "", func(file string) error { return users.Remove(file, args[0]) })
		},
	}
}

func userListCommand(u *userFile) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show who may log in, and as what",
		Example: "  sudo ichwatch user list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, _, err := u.find()
			if err != nil {
				return err
			}
			all, err := users.Read(file)
			if err != nil {
				return err
			}
			for _, user := range all {
				fmt.Fprintf(cmd.OutOrStdout(), "%-32s %s\n", user.Name, user.Role)
			}
			return nil
		},
	}
}
