package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// ErrBroken is matched by every error of a trail that is not what was written.
var ErrBroken = errors.New("the chain is broken")

// genesis stands before the first line.
var genesis = strings.Repeat("0", 2*sha256.Size)

func hashOf(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// Report is what a verified trail comes to.
type Report struct {
	Records     uint64
	First, Last time.Time
	Head        string // hash of the last line: note it elsewhere
	Torn        int    // lines that were not finished, each told of by the next
}

// Verify reads a whole trail. An error that matches ErrBroken names the first
// line that does not fit. A last line without its end is not one: it was never
// confirmed to anybody.
func Verify(r io.Reader) (Report, error) {
	return Each(r, func(Record) error { return nil })
}

// Each is Verify that gives every record on its way.
func Each(r io.Reader, visit func(Record) error) (Report, error) {
	v := verifier{head: genesis, visit: visit}
	err := v.read(r)
	v.report.Head = v.head
	return v.report, err
}

// verifier follows the chain.
type verifier struct {
	head   string // hash of the last line that fits
	report Report
	visit  func(Record) error // nil: nothing

	line int
	odd  []byte // a line that is no record; the next must tell of it
	torn []byte // what stands behind the last line end
}

func (v *verifier) read(r io.Reader) error {
	lines := bufio.NewReaderSize(r, maxLine)
	var broken error
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			if len(line) > 0 {
				v.torn = bytes.Clone(line)
			} else if v.odd != nil && broken == nil {
				broken = v.wrong("is no record, and no line tells that it was not finished")
			}
			return broken
		case errors.Is(err, bufio.ErrBufferFull):
			return errors.Join(broken, v.wrong("is longer than any record"))
		case err != nil:
			return fmt.Errorf("read the audit trail: %w", err)
		}
		v.line++
		if err := v.next(line[:len(line)-1]); errors.Is(err, ErrBroken) {
			if broken == nil {
				broken = err
			}
		} else if err != nil {
			return err
		}
	}
}

// next takes one line. After a break the chain is followed from there on, for
// the sake of what is appended.
func (v *verifier) next(line []byte) error {
	var r Record
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if d.Decode(&r) != nil {
		if v.odd != nil {
			return v.wrong("is no record")
		}
		v.odd = bytes.Clone(line)
		return nil
	}
	odd := v.odd
	v.odd = nil
	var err error
	switch {
	case odd != nil && (r.Event != Torn || r.Detail != hashOf(odd)):
		err = v.wrong("follows a line that is no record, and does not tell that it was not finished")
	case odd == nil && r.Event == Torn:
		err = v.wrong("tells of a line that is not there")
	case r.Prev != v.head:
		err = v.wrong("does not carry the hash of the line before: one of the two was changed, or something between them is missing")
	case r.Seq != v.report.Records+1:
		err = v.wrong(fmt.Sprintf("has the number %d instead of %d", r.Seq, v.report.Records+1))
	}
	if odd != nil {
		v.report.Torn++
	}
	if v.report.First.IsZero() {
		v.report.First = r.At
	}
	v.head, v.report.Records, v.report.Last = hashOf(line), r.Seq, r.At
	if err == nil && v.visit != nil {
		err = v.visit(r)
	}
	return err
}

func (v *verifier) wrong(what string) error {
	return fmt.Errorf("%w: line %d %s", ErrBroken, v.line, what)
}

// Tail returns the last n records, oldest first, having followed the chain from
// its beginning.
func (t *Trail) Tail(n int) ([]Record, error) {
	if t == nil {
		return nil, errNone
	}
	f, err := os.Open(t.file.Name())
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	defer f.Close()
	var last []Record
	_, err = Each(f, func(r Record) error {
		if len(last) == n {
			last = append(last[:0], last[1:]...)
		}
		last = append(last, r)
		return nil
	})
	return last, err
}

// CSV writes records as a table for people. Texts that a spreadsheet would take
// for a formula are made plain.
func CSV(w io.Writer) (write func(Record) error, flush func() error) {
	out := csv.NewWriter(w)
	first := true
	plain := func(s string) string {
		if s != "" && strings.ContainsAny(s[:1], "=+-@\t\r") {
			return "'" + s
		}
		return s
	}
	write = func(r Record) error {
		if first {
			first = false
			if err := out.Write([]string{"seq", "at", "event", "by", "role", "via", "from", "study", "alert", "detail", "result"}); err != nil {
				return err
			}
		}
		row := []string{strconv.FormatUint(r.Seq, 10), r.At.Format(time.RFC3339Nano), string(r.Event)}
		for _, s := range []string{r.By, r.Role, r.Via, r.From, r.Study, r.Alert, r.Detail, r.Result} {
			row = append(row, plain(s))
		}
		return out.Write(row)
	}
	return write, func() error { out.Flush(); return out.Error() }
}
