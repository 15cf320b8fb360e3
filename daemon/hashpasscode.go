package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ichwatch/dimse/identity"
)

func hashPasscodeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash-passcode USER",
		Short: "Print a line for the file of users: a user and the hash of a passcode",
		Long: `Reads a passcode, twice from a terminal and without showing it, or else one line
of the standard input, and prints the line of dicom.users_file that lets USER in
with it. The passcode is no argument: others could see it in the list of
processes.`,
		Example: `  ichwatch hash-passcode ct1 | sudo tee -a /etc/ichwatch/secrets/users
  pwgen 20 1 | ichwatch hash-passcode ct1`,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("name the user")
			case 1:
				return nil
			}
			return errors.New("name the user alone: the passcode is asked for, or read from the standard input")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			passcode, err := readPasscode(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return fmt.Errorf("read the passcode: %w", err)
			}
			line, err := identity.Line(args[0], passcode)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
}

// readPasscode asks on a terminal, and otherwise reads a line.
func readPasscode(in io.Reader, prompt io.Writer) ([]byte, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return askPasscode(int(f.Fd()), prompt)
	}
	line, err := bufio.NewReader(io.LimitReader(in, 2*identity.MaxPasscode)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func askPasscode(fd int, prompt io.Writer) ([]byte, error) {
	var answers [2][]byte
	for i, question := range []string{"Passcode: ", "Once more: "} {
		fmt.Fprint(prompt, question)
		answer, err := term.ReadPassword(fd)
		fmt.Fprintln(prompt)
		if err != nil {
			return nil, err
		}
		answers[i] = answer
	}
	if !bytes.Equal(answers[0], answers[1]) {
		return nil, errors.New("the two differ")
	}
	return answers[0], nil
}
