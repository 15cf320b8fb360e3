package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake in a model folder.
type Problem struct {
	Line int    // in the manifest, from 1; 0 where the mistake has no place in it
	Key  string // "windows[1].width"; empty where it is the file's
	Text string // what is wrong, and what would be right
	Err  error  // the cause from the operating system, where there is one
}

// InvalidError is everything that is wrong with a model folder.
type InvalidError struct {
	File     string    // path of the manifest
	Problems []Problem // in the order of their lines
}

// Error lists the problems, one a line, each behind its place as compilers do.
func (e *InvalidError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
		if p.Key != "" {
			b.WriteString(p.Key + ": ")
		}
		b.WriteString(p.Text)
	}
	return b.String()
}

// Unwrap gives the causes, so that errors.Is(err, fs.ErrNotExist) works.
func (e *InvalidError) Unwrap() (errs []error) {
	for _, p := range e.Problems {
		if p.Err != nil {
			errs = append(errs, p.Err)
		}
	}
	return errs
}

// problems collects what is found, knowing where each key stands.
type problems struct {
	lines map[string]int // of each key in the file
	list  []Problem
}

// add notes a problem with a key; the line is the key's own or, where it is
// missing, that of the nearest key around it.
func (p *problems) add(key, format string, args ...any) {
	p.list = append(p.list, Problem{Line: p.line(key), Key: key, Text: fmt.Sprintf(format, args...)})
}

func (p *problems) line(key string) int {
	for {
		if line, ok := p.lines[key]; ok {
			return line
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut < 0 {
			return 0
		}
		key = key[:cut]
	}
}

// has reports whether a key already has a problem of its own, or one inside it:
// then a second one about its value would only confuse.
func (p *problems) has(key string) bool {
	return slices.ContainsFunc(p.list, func(q Problem) bool {
		rest, inside := strings.CutPrefix(q.Key, key)
		return inside && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// err gives nil, or everything found.
func (p *problems) err(file string) error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &InvalidError{File: file, Problems: p.list}
}
