// Package audit keeps the trail of what people did: who came in, who looked at
// which study, who answered an alert, and how.
//
// The trail is a file of JSON lines that is only ever appended to. Each line
// carries the SHA-256 of the line before it, so that none can be changed, taken
// out or put in without every later one telling; each is on the disk before
// Append returns. What no chain shows is that its end was cut off: compare the
// head that `ichwatch audit verify` prints with one that was noted elsewhere; the
// daemon writes it to its log at every start.
//
// A line names people by their user names and studies by their pseudonyms, never
// a patient.
package audit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Event is what a line of the trail is about.
type Event string

// The events.
const (
	Started     Event = "daemon.started"
	LoggedIn    Event = "login"
	Refused     Event = "login.refused"
	LoggedOut   Event = "logout"
	Opened      Event = "study.opened"
	Acknowledge Event = "alert.acknowledge"
	Verdict     Event = "alert.verdict"
	Checked     Event = "config.checked"
	Read        Event = "trail.read"
	UserAdded   Event = "user.added"
	UserChanged Event = "user.changed"
	UserRemoved Event = "user.removed"
	Torn        Event = "trail.torn" // the line before was not finished, as after a power cut
)

// Results of what somebody asked for. Anything else is the reason of a refusal.
const (
	Asked = "asked" // it is about to be tried
	Done  = "done"
)

// Record is a line of the trail. Seq, At and Prev are Append's.
type Record struct {
	Seq    uint64    `json:"seq"` // from 1
	At     time.Time `json:"at"`
	Event  Event     `json:"event"`
	By     string    `json:"by,omitempty"`     // user name, or who it was in the words of the channel
	Role   string    `json:"role,omitempty"`   // of that user
	Via    string    `json:"via,omitempty"`    // "page", "mqtt", "command"
	From   string    `json:"from,omitempty"`   // network address
	Study  string    `json:"study,omitempty"`  // pseudonym
	Alert  string    `json:"alert,omitempty"`  // id
	Detail string    `json:"detail,omitempty"` // the verdict, the comment
	Result string    `json:"result,omitempty"`
	Prev   string    `json:"prev"` // SHA-256 of the line before, lower-case hex; zeros before the first
}

// Name is the trail's file in the directory of the spool.
const Name = "audit.jsonl"

// maxLine bounds a line, in bytes; texts that come from people are cut to
// maxText characters.
const (
	maxLine = 16 << 10
	maxText = 600
)

// Trail is an open trail. It may be used by several goroutines, and by several
// processes at once.
type Trail struct {
	now func() time.Time

	mu   sync.Mutex
	file *os.File
	size int64  // up to which head and seq are known
	head string // hash of the last line
	seq  uint64 // of the last line
	err  error  // of the last Append

	broken error // of what was read; it stays
}

// Open opens the trail, or begins it, and reads it to its end: an error that
// matches ErrBroken says that it is not what was written. Such a trail is left
// alone; appending goes on in it all the same, behind the damage.
func Open(path string) (*Trail, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the audit trail: %w", err)
	}
	t := &Trail{file: f, head: genesis, now: time.Now}
	if err := t.locked(func() error { return t.catchUp() }); err != nil && !errors.Is(err, ErrBroken) {
		return nil, errors.Join(fmt.Errorf("open the audit trail: %w", err), f.Close())
	} else if err != nil {
		return t, fmt.Errorf("audit trail %s: %w", path, err)
	}
	return t, nil
}

// errNone: there is no trail to write to.
var errNone = errors.New("the audit trail could not be opened at the start")

// Close closes the file.
func (t *Trail) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.file.Close()
}

// Head is the number and the hash of the last line.
func (t *Trail) Head() (seq uint64, hash string) {
	if t == nil {
		return 0, ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq, t.head
}

// Err is why the last Append failed, or that the trail is broken.
func (t *Trail) Err() error {
	if t == nil {
		return errNone
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return cmp.Or(t.err, t.broken)
}

// Append writes a record and returns when it is on the disk. Of a nil Trail it
// fails, as Err does: whoever goes on without a trail needs no other way.
func (t *Trail) Append(r Record) error {
	if t == nil {
		return errNone
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = t.locked(func() error {
		if err := t.catchUp(); err != nil && !errors.Is(err, ErrBroken) {
			return err
		}
		return t.write(r)
	})
	if t.err != nil {
		t.err = fmt.Errorf("write the audit trail: %w", t.err)
	}
	return t.err
}

// Around tells the trail that something is asked for, does it, and tells what
// became of it: whatever happens in between, no act is without a trace. do's
// error is returned. That of the trail is in Err: an answer to an alert must not
// fail for the want of its record.
func (t *Trail) Around(r Record, do func() error) error {
	r.Result = Asked
	_ = t.Append(r)
	err := do()
	r.Result = Done
	if err != nil {
		r.Result = "refused: " + err.Error()
	}
	_ = t.Append(r)
	return err
}

// write appends one line behind the last one.
func (t *Trail) write(r Record) error {
	r.Seq, r.At, r.Prev = t.seq+1, t.now().UTC().Truncate(time.Microsecond), t.head
	for _, text := range []*string{&r.By, &r.Role, &r.Via, &r.From, &r.Study, &r.Alert, &r.Detail, &r.Result} {
		*text = cut(*text)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	n, err := t.file.Write(append(line, '\n'))
	if err == nil {
		err = t.file.Sync()
	}
	if err != nil {
		return err // how much of it is there, the next catchUp finds out
	}
	t.size, t.seq, t.head = t.size+int64(n), r.Seq, hashOf(line)
	return nil
}

// catchUp reads what stands behind the part that is known, be it another
// process's or our own that failed, and closes a line that was not finished.
func (t *Trail) catchUp() error {
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() == t.size {
		return nil
	}
	v := verifier{head: t.head, report: Report{Records: t.seq}}
	if info.Size() < t.size { // somebody has cut it
		t.broken = fmt.Errorf("%w: the file is shorter than it was", ErrBroken)
		t.size, v = 0, verifier{head: genesis}
	}
	broken := v.read(io.NewSectionReader(t.file, t.size, info.Size()-t.size))
	if broken != nil && !errors.Is(broken, ErrBroken) {
		return broken
	}
	t.broken = cmp.Or(t.broken, broken)
	t.size, t.head, t.seq = info.Size(), v.head, v.report.Records
	if v.torn == nil {
		return broken
	}
	if _, err := t.file.Write([]byte{'\n'}); err != nil {
		return err
	}
	t.size++
	if v.next(v.torn) == nil && v.odd == nil { // it lacked its end alone
		t.head, t.seq = v.head, v.report.Records
		return broken
	}
	return errors.Join(broken, t.write(Record{Event: Torn, Detail: hashOf(v.torn)}))
}

// locked runs do while no other process writes.
func (t *Trail) locked(do func() error) error {
	if err := unix.Flock(int(t.file.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	defer func() { _ = unix.Flock(int(t.file.Fd()), unix.LOCK_UN) }() // nothing else holds a lock that was held
	return do()
}

func cut(s string) string {
	if runes := []rune(s); len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return s
}
