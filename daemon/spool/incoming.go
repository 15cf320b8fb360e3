package spool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"time"

	"github.com/oklog/ulid/v2"

	"ichwatch/dimse/dicom"
)

// Incoming is an instance being received. Its methods are for one goroutine.
type Incoming struct {
	spool  *Spool
	meta   dicom.FileMeta
	name   ulid.ULID
	file   file // nil once closed
	ended  bool // committed or discarded
	hash   hash.Hash
	offset int64 // of the data set
	size   int64 // of the data set, so far
	err    error // the first of Write
}

// Create begins a file for an instance that is about to arrive. Its data set
// goes to Write as it comes; then Commit or Discard ends it.
func (s *Spool) Create(m dicom.FileMeta) (*Incoming, error) {
	name, err := s.newName()
	if err != nil {
		return nil, err
	}
	f, err := s.files.Create(incomingPath(name))
	if err != nil {
		err = classify(err)
		s.noteUnfit(err)
		return nil, fmt.Errorf("create a file in the spool: %w", err)
	}
	in := &Incoming{spool: s, meta: m, name: name, file: f, hash: sha256.New()}
	if in.offset, err = dicom.WriteFileMeta(f, m); err != nil {
		in.Discard()
		return nil, fmt.Errorf("write the Part 10 header: %w", classify(err))
	}
	s.hook(StepCreated)
	return in, nil
}

// Write appends to the data set. After an error every further Write and Commit
// fails with it.
func (in *Incoming) Write(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.file.Write(p)
	in.hash.Write(p[:n])
	in.size += int64(n)
	if err != nil {
		err = classify(err)
		in.spool.noteUnfit(err)
		in.err = fmt.Errorf("write to the spool: %w", err)
	}
	return n, in.err
}

// Size returns how many bytes of the data set were written.
func (in *Incoming) Size() int64 { return in.size }

// Discard gives the instance up and removes its file: nothing of it was
// acknowledged. It does nothing after Commit, so that it can be deferred.
func (in *Incoming) Discard() {
	if in.ended {
		return
	}
	in.ended = true
	var err error
	if in.file != nil {
		err = in.file.Close()
	}
	// A Commit that failed may have renamed it, even where the rename failed.
	for _, path := range []string{incomingPath(in.name), instancePath(in.name)} {
		if rerr := in.spool.files.Remove(path); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	if err != nil {
		in.spool.log.Warn("a file that was not acknowledged may stay until the next start, which adopts it or moves it to quarantine", "err", err)
	}
}

// Commit makes the instance durable: file, directory and index row, with its legs
// and a finding to be made. Only when it returns nil may the sender be told
// success. The header, of what Describes names, places the instance in its study
// and series and decides where it goes; it may lack all that, and may be nil.
//
// Once begun it is not cancelled: ctx is looked at before the first step only.
// After an error the file is removed, or else the next start will adopt it;
// Discard is harmless.
func (in *Incoming) Commit(ctx context.Context, h *dicom.Header) (Instance, Duplicate, error) {
	i, d, err := in.commit(ctx, h)
	if err != nil {
		in.Discard()
		err = classify(err)
		in.spool.noteUnfit(err)
		return Instance{}, DuplicateNo, fmt.Errorf("commit to the spool: %w", err)
	}
	return i, d, nil
}

func (in *Incoming) commit(ctx context.Context, h *dicom.Header) (Instance, Duplicate, error) {
	s := in.spool
	switch {
	case in.ended:
		return Instance{}, 0, fs.ErrClosed
	case in.err != nil:
		return Instance{}, 0, in.err
	case ctx.Err() != nil:
		return Instance{}, 0, ctx.Err()
	}
	ctx = context.WithoutCancel(ctx)
	s.hook(StepWritten)

	i := s.describe(in.meta, h)
	i.Size, i.offset, i.name = in.size, in.offset, in.name.String()
	i.ReceivedAt = s.now().UTC()
	in.hash.Sum(i.SHA256[:0])

	if err := in.file.Sync(); err != nil {
		return i, 0, err
	}
	s.hook(StepFileSynced)

	lock := s.commits.of(i.SOPInstanceUID)
	lock.Lock()
	defer lock.Unlock()
	copies, err := s.copies(ctx, i.SOPInstanceUID)
	if err != nil {
		return i, 0, err
	}
	if same, ok := copies.stored(i.SHA256); ok {
		held, err := s.hasFile(same)
		if err != nil {
			return i, 0, err
		}
		if held {
			in.Discard()
			return same, DuplicateSame, s.sentAgain(ctx, same)
		}
	}

	err = in.file.Close()
	in.file = nil
	if err != nil {
		return i, 0, err
	}
	if err := s.files.Rename(incomingPath(in.name), instancePath(in.name)); err != nil {
		return i, 0, err
	}
	s.hook(StepRenamed)
	if err := s.files.SyncDir(shard(in.name)); err != nil {
		return i, 0, err
	}
	s.hook(StepDirectorySynced)

	duplicate := DuplicateNo
	if copies.otherThan(i.SHA256) {
		duplicate = DuplicateDifferent
	}
	err = s.write(ctx, rebuildable, StepIndexed, func(tx *transaction) error {
		return s.index(tx, &i, duplicate)
	})
	if err != nil {
		return i, 0, err
	}
	in.ended = true
	s.held.Add(i.offset + i.Size)
	i.traits = Traits{} // nobody else is to know them
	s.announce(1)
	if duplicate == DuplicateDifferent {
		s.log.Warn("an instance came again under its SOP Instance UID with other bytes; both are kept and forwarded",
			"study", i.Study, "instance", i.ID)
	}
	return i, duplicate, nil
}

// hasFile looks whether the file of a stored instance is there in its whole
// length: its sender is about to be told so. What else lies under its name goes to
// quarantine, lest a later start adopt it.
func (s *Spool) hasFile(i Instance) (bool, error) {
	f, err := s.openFile(i)
	switch {
	case err == nil:
		return true, f.Close()
	case !errors.Is(err, ErrMissing):
		return false, err
	}
	s.log.Error("the file of an acknowledged instance was gone or cut short; it has been sent again; check the disk",
		"study", i.Study, "instance", i.ID)
	name, err := ulid.ParseStrict(i.name)
	if err != nil {
		return false, err
	}
	if err := s.quarantine(instancePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return false, nil
}

// describe fills in what the command and the header say of an instance.
func (s *Spool) describe(m dicom.FileMeta, h *dicom.Header) Instance {
	i := Instance{
		SOPInstanceUID:    m.SOPInstanceUID,
		SOPClassUID:       m.SOPClassUID,
		TransferSyntaxUID: m.TransferSyntaxUID,
		CallingAETitle:    m.SourceAETitle,
	}
	if h != nil {
		i.StudyInstanceUID = h.UID(dicom.TagStudyInstanceUID)
		i.SeriesInstanceUID = h.UID(dicom.TagSeriesInstanceUID)
	}
	if i.StudyInstanceUID == "" {
		i.StudyInstanceUID = i.SOPInstanceUID
	}
	i.Study = s.Pseudonym(i.StudyInstanceUID)
	i.traits = traits(m, h)
	return i
}

// announce wakes whoever waits for new instances.
func (s *Spool) announce(n int) {
	if n == 0 {
		return
	}
	signal(s.wake.slices)
	s.wakeForwarders()
}

// received is when the file of that name was begun.
func received(name ulid.ULID) time.Time { return ulid.Time(name.Time()).UTC() }
