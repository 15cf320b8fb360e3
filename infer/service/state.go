package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"ichwatch/infer"
)

// Choice is which models answer, and at which operating point.
type Choice struct {
	Models []string `json:"models"`                    // folders
	Point  string   `json:"operating_point,omitempty"` // empty: the models' default
	// Refs are what the folders held when they were verified; nil where that was not
	// written down.
	Refs infer.Models `json:"refs,omitempty"`
}

// same compares what a configuration can say.
func (c Choice) same(other Choice) bool {
	return slices.Equal(c.Models, other.Models) && c.Point == other.Point
}

// expected refuses folders that hold something else than they did.
func (c Choice) expected(found infer.Models) error {
	if c.Refs != nil && !slices.Equal(c.Refs, found) {
		return fmt.Errorf("%s: held %v when it was activated and holds %v now; activate it anew if that is meant", strings.Join(c.Models, ", "), c.Refs, found)
	}
	return nil
}

// String names the folders' last parts.
func (c Choice) String() string {
	names := make([]string, len(c.Models))
	for i, dir := range c.Models {
		names[i] = filepath.Base(dir)
	}
	return strings.Join(names, " + ")
}

// Selection is what was chosen by command, as the state file keeps it.
type Selection struct {
	Schema string `json:"schema"`
	// Configured is what the configuration named then. Where it names something else
	// now, that holds.
	Configured Choice    `json:"configured"`
	Active     Choice    `json:"active"`
	Previous   *Choice   `json:"previous,omitempty"` // the way back
	Since      time.Time `json:"since"`
	Reason     string    `json:"reason"`          // for people
	Alarm      string    `json:"alarm,omitempty"` // of models that were rolled back by themselves
}

const (
	selectionName   = "active.json"
	selectionSchema = "ichwatch.active/v1"
)

// ReadSelection reads what was chosen by command for a configuration; nil where
// nothing was, or where the configuration has changed since.
func ReadSelection(dir string, configured Choice) (*Selection, error) {
	text, err := os.ReadFile(filepath.Join(dir, selectionName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which models are active: %w", err)
	}
	var s Selection
	if err := json.Unmarshal(text, &s); err != nil || s.Schema != selectionSchema {
		return nil, fmt.Errorf("read which models are active: %s is damaged or of another release (%v); remove it, and the configuration's models are active", filepath.Join(dir, selectionName), err)
	}
	if !s.Configured.same(configured) {
		return nil, nil
	}
	return &s, nil
}

// write makes a selection durable: the old one or the new one is there, whatever
// happens. The file belongs to whom the directory belongs to, whoever writes it.
func (s *Selection) write(dir string) error {
	s.Schema, s.Since = selectionSchema, s.Since.UTC().Truncate(time.Second)
	if err := writeJSON(dir, selectionName, s); err != nil {
		return fmt.Errorf("write down which models are active: %w", err)
	}
	return nil
}

// writeJSON replaces a file of the state directory.
func writeJSON(dir, name string, what any) error {
	text, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	parent, err := os.Stat(filepath.Dir(dir)) // root may be at work in the daemon's folder
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(filepath.Join(dir, name), renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := errors.Join(own(dir, parent), own(f.Name(), parent)); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
