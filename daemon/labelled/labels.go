// Package labelled reads sets of slices whose truth is known and sends them down
// the daemon's own path: gate, pixels, model, study rule. What comes out is what
// the daemon would have said, beside what is true.
//
// A set is a folder and a table of labels. In the folder lie Part 10 files, which
// the table names by their path or by their SOP Instance UID, or the windowed
// JPEG pairs of ct-ich, or images (PNG, JPEG) that were exported in one window.
//
// The table has a column for each class with 0 or 1 in it. Where it has a column
// any as well, a class may be left empty or out: a slice that shows a hemorrhage
// of which not every class is stated counts for any hemorrhage alone.
package labelled

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ichwatch/dimse/dicom"
	"ichwatch/infer"
	"ichwatch/infer/assess"
)

// Format says how the slices of a set are kept.
type Format string

// The formats. Auto looks at the set.
const (
	Auto    Format = "auto"
	Phantom Format = "phantom" // Part 10 files, as ichwatch phantom writes them
	CTICH   Format = "ct-ich"  // brain/ and bone/ with JPEGs of two windows
	Images  Format = "images"  // PNG or JPEG in one window, 8 bits
)

// ParseFormat finds a format by its name.
func ParseFormat(name string) (Format, error) {
	for _, f := range []Format{Auto, Phantom, CTICH, Images} {
		if string(f) == name {
			return f, nil
		}
	}
	return "", fmt.Errorf("format %q is not known; there are %s, %s, %s and %s", name, Auto, Phantom, CTICH, Images)
}

// Label is one row of the table.
type Label struct {
	Line     int       // of the table, its header being line 1
	File     string    // path below the folder, with slashes; may be empty
	Instance dicom.UID // SOP Instance UID; may be empty
	Study    int       // counts from 0, by first appearance
	Patient  int       // likewise; Study where the table has no patients
	Series   dicom.UID // slices of one series are weighed together
	Truth    assess.Truth
	// Doubtful slices show something, but too little to be called either way.
	// They belong to their study and to no figure of slices.
	Doubtful bool
	slice    float64 // number of the slice in its stack; NaN where it has none
}

// Labels is a table of labels.
type Labels struct {
	Rows     []Label
	Studies  int
	Patients int
	Unit     string   // "patient", or "study" where the table has no patients
	Ignored  []string // columns of 0 and 1 that name no class
	numbered bool     // it says where slices lie in their stack
	path     string   // for errors
}

// mostListed is how many of many things are named one by one.
const mostListed = 8

// ListError is several mistakes of one kind.
type ListError struct {
	What  string   // "labels have no file"
	Items []string // each of them, or the first of them
	Count int      // of all where Items has the first; otherwise 0
	Hint  string   // what to do; may be empty
}

// Error counts them and names the first of them.
func (e *ListError) Error() string {
	listed, count := e.Items[:min(len(e.Items), mostListed)], max(e.Count, len(e.Items))
	text := fmt.Sprintf("%s (%d): %s", e.What, count, strings.Join(listed, ", "))
	if more := count - len(listed); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// ReadLabels reads a table. classes are those of the model; each hemorrhage class
// needs its column, unless there is a column any. Errors start with the place, as
// compilers write it: path:line:.
func ReadLabels(path string, classes []infer.Class) (*Labels, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the labels: %w", err)
	}
	defer f.Close()
	return parseLabels(path, f, classes)
}

// mostRows bounds the memory that a table may take.
const mostRows = 5_000_000

func parseLabels(path string, r io.Reader, classes []infer.Class) (*Labels, error) {
	in := func(line int, err error) error { return fmt.Errorf("%s:%d: %w", path, line, err) }
	reader := csv.NewReader(r)
	reader.ReuseRecord = true
	// failed says where the text is no table.
	failed := func(err error) error {
		if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
			return fmt.Errorf("%s:%d:%d: %w", path, wrong.Line, wrong.Column, wrong.Err)
		}
		return fmt.Errorf("read the labels: %w", err)
	}
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, in(1, errors.New("is empty; its first line names the columns"))
	} else if err != nil {
		return nil, failed(err)
	}
	header = slices.Clone(header)
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // as spreadsheets write it
	t := table{at: map[string]int{}, studies: map[string]int{}, patients: map[string]int{}, files: map[string]int{}, owner: map[string]string{}}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := t.at[name]; twice {
			return nil, in(1, fmt.Errorf("column %s is there twice", name))
		}
		t.at[name] = i
	}
	if err := t.check(header, classes); err != nil {
		return nil, in(1, err)
	}
	t.ones, t.other = make([]bool, len(header)), make([]bool, len(header))
	l := &Labels{Unit: "study", numbered: t.has("slice"), path: path}
	if t.has("patient") {
		l.Unit = "patient"
	}
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, failed(err)
		}
		line, _ := reader.FieldPos(0)
		if len(l.Rows) == mostRows {
			return nil, in(line, fmt.Errorf("there are more than %d rows", mostRows))
		}
		if row, ok := t.row(record, line); ok {
			l.Rows = append(l.Rows, row)
		}
	}
	if err := t.err(in); err != nil {
		return nil, err
	}
	if len(l.Rows) == 0 {
		return nil, in(1, errors.New("has no row below the columns' names"))
	}
	l.Studies, l.Patients = len(t.studies), len(t.patients)
	for i, name := range header {
		column := strings.ToLower(strings.TrimSpace(name))
		if _, err := infer.ParseClass(column); err != nil && t.ones[i] && !t.other[i] && !slices.Contains(known, column) {
			l.Ignored = append(l.Ignored, name)
		}
	}
	return l, nil
}

// known are the columns that are read beside the classes.
var known = []string{"file", "sop_instance_uid", "study", "patient", "series", "slice", "trace", "any"}

// table is a table in reading.
type table struct {
	at                map[string]int // columns
	studies, patients map[string]int
	files             map[string]int    // and UIDs: their line
	owner             map[string]string // of a Study Instance UID: its patient
	ones, other       []bool            // by column: there is a 1, there is something beside 0 and 1

	odd, against, repeated, nameless, ownerless, shared mistakes // what is wrong with rows
}

// mistakes of one kind; the first are kept.
type mistakes struct {
	line  int // of the first
	items []string
	count int
}

func (m *mistakes) add(line int, what string) {
	if m.count == 0 {
		m.line = line
	}
	if m.count++; len(m.items) < mostListed {
		m.items = append(m.items, what)
	}
}

func (t *table) has(column string) bool { _, ok := t.at[column]; return ok }

func (t *table) check(header []string, classes []infer.Class) error {
	var missing []string
	for _, c := range classes {
		if c.Hemorrhage() && !t.has(c.String()) && !t.has("any") {
			missing = append(missing, c.String())
		}
	}
	if len(missing) > 0 {
		return &ListError{What: "columns of the model's classes are missing", Items: missing, Hint: "there are " + bounded(header)}
	}
	if !t.has("file") && !t.has("sop_instance_uid") {
		return errors.New("has neither a column file nor sop_instance_uid: which slice a row is about cannot be known; there are " + bounded(header))
	}
	if !t.has("study") && !t.has("patient") {
		return errors.New("has neither a column study nor patient: slices of one head resemble each other, and figures need to know; there are " + bounded(header))
	}
	return nil
}

func bounded(words []string) string {
	const most = 20
	text := strings.Join(words[:min(len(words), most)], ", ")
	if len(words) > most {
		text += fmt.Sprintf(" and %d more", len(words)-most)
	}
	return text
}

// row takes one row, or notes what is wrong with it.
func (t *table) row(record []string, line int) (l Label, ok bool) {
	where := "line " + strconv.Itoa(line)
	get := func(column string) string {
		if i, ok := t.at[column]; ok {
			return strings.TrimSpace(record[i])
		}
		return ""
	}
	for i, v := range record {
		switch strings.TrimSpace(v) {
		case "0":
		case "1":
			t.ones[i] = true
		default:
			t.other[i] = true
		}
	}
	l = Label{Line: line, Instance: dicom.UID(get("sop_instance_uid")), Series: dicom.UID(get("series"))}
	if file := get("file"); file != "" {
		l.File = filepath.ToSlash(filepath.Clean(file))
	}
	flag := func(column string) bool {
		switch get(column) {
		case "1":
			return true
		case "0":
		default:
			if t.has(column) {
				t.odd.add(line, where+" "+column)
			}
		}
		return false
	}
	stated := true // of every class
	for _, c := range infer.Classes() {
		switch {
		case !c.Hemorrhage():
		case t.has("any") && get(c.String()) == "":
			stated = false
		default:
			l.Truth.Shows[c] = flag(c.String())
		}
	}
	against := false
	if t.has("any") {
		bleeds := flag("any")
		l.Truth.Unclassified = bleeds && !stated
		against = bleeds != l.Truth.Any()
	}
	if t.has("normal") {
		against = flag("normal") == l.Truth.Any() || against
	}
	if against {
		t.against.add(line, where)
	}
	l.Doubtful = t.has("trace") && flag("trace") && !l.Truth.Any()
	study, patient := get("study"), get("patient")
	switch {
	case study == "" && patient == "", l.File == "" && l.Instance == "":
		t.nameless.add(line, where)
		return l, false
	case study == "":
		study = "patient " + patient
	case patient == "" && t.has("patient"):
		// Somebody, perhaps one who is named elsewhere: two patients would be made of one.
		t.ownerless.add(line, where)
		return l, false
	case patient == "":
		patient = "study " + study
	}
	// Numbers of studies may repeat from patient to patient, UIDs do not.
	if strings.Contains(study, ".") && dicom.UID(study).Valid() == nil {
		if first, known := t.owner[study]; known && first != patient {
			t.shared.add(line, where)
		} else {
			t.owner[study] = patient
		}
	}
	l.Study, l.Patient = number(t.studies, patient+"\x00"+study), number(t.patients, patient)
	if l.Series == "" {
		l.Series = dicom.UID(study)
	}
	l.slice = math.NaN()
	if number, err := strconv.ParseFloat(get("slice"), 64); err == nil {
		l.slice = number
	}
	for _, name := range []string{l.File, string(l.Instance)} {
		if name == "" {
			continue
		}
		if first, twice := t.files[name]; twice {
			t.repeated.add(line, fmt.Sprintf("%s (as line %d)", where, first))
			break
		}
		t.files[name] = line
	}
	return l, true
}

func number(numbers map[string]int, name string) int {
	n, ok := numbers[name]
	if !ok {
		n = len(numbers)
		numbers[name] = n
	}
	return n
}

// err is what is wrong with the rows; in puts a line's place before it.
func (t *table) err(in func(line int, err error) error) error {
	var errs []error
	for _, kind := range []struct {
		what string
		mistakes
	}{
		{"labels are neither 0 nor 1", t.odd},
		{"rows contradict themselves: normal or not any with a hemorrhage, or neither", t.against},
		{"rows name no slice, or no study and no patient", t.nameless},
		{"rows name no patient, and others do; leave the column patient out where patients are not known", t.ownerless},
		{"rows give a study to another patient than rows before them", t.shared},
		{"rows are about a slice that has one already", t.repeated},
	} {
		if kind.count > 0 {
			errs = append(errs, in(kind.line, &ListError{What: kind.what, Items: kind.items, Count: kind.count}))
		}
	}
	return errors.Join(errs...)
}
