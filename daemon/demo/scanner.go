package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"ichwatch/daemon/phantom"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// scanner pushes phantom studies over DICOM, one association a study, one slice each Pace, as a CT console does while it
// reconstructs.
type scanner struct {
	board *board
	addr  string
	pace  time.Duration
	size  int // rows and columns

	mu      sync.Mutex
	studies map[dicom.UID]dicom.UID // SOP Instance UID -> Study Instance UID
}

func newScanner(b *board, addr string, o Options) *scanner {
	size := o.Size
	if size == 0 {
		size = 512
	}
	return &scanner{board: b, addr: addr, pace: o.Pace, size: size, studies: map[dicom.UID]dicom.UID{}}
}

// study tells which study an instance belongs to.
func (s *scanner) study(instance dicom.UID) dicom.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.studies[instance]
}

// image is a rendered slice, ready to go.
type image struct {
	instance dicom.UID
	dataSet  []byte
	err      error
}

// push sends one study. Slices are rendered ahead of the pace.
func (s *scanner) push(ctx context.Context, p *phantom.Study) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	images := make(chan image, 4)
	go func() {
		defer close(images)
		for i := range p.Slices() {
			select {
			case images <- render(p, i):
			case <-ctx.Done():
				return
			}
		}
	}()

	study := p.StudyUID()
	s.board.add(Row{Study: p.Class().String(), StudyUID: study, Slices: p.Slices()})
	s.board.update(study, func(*Row) (string, bool) {
		return fmt.Sprintf("the scanner begins to send %d slices", p.Slices()), false
	})

	dialer := &dimse.Dialer{
		CallingAETitle: "DEMO_CT",
		CalledAETitle:  "ICHWATCH",
		Contexts: []dimse.ProposedContext{{
			AbstractSyntax:   dicom.CTImageStorage,
			TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian},
		}},
	}
	assoc, err := dialer.Dial(ctx, s.addr)
	if err != nil {
		return fmt.Errorf("the scanner cannot reach ichwatch: %w", err)
	}
	defer assoc.Abort() // nothing after a release

	tick := time.NewTicker(max(s.pace, time.Millisecond))
	defer tick.Stop()
	for img := range images {
		if img.err != nil {
			return img.err
		}
		if err := s.store(ctx, assoc, study, img); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return assoc.Release(ctx)
}

func (s *scanner) store(ctx context.Context, assoc *dimse.Association, study dicom.UID, img image) error {
	s.mu.Lock()
	s.studies[img.instance] = study
	s.mu.Unlock()
	s.board.expect(img.instance, sha256.Sum256(img.dataSet))

	result, err := assoc.Store(ctx, dimse.CStoreRQ{
		SOPClassUID:    dicom.CTImageStorage,
		SOPInstanceUID: img.instance,
		TransferSyntax: explicit,
	}, bytes.NewReader(img.dataSet))
	if err != nil {
		return fmt.Errorf("the scanner cannot send a slice: %w", err)
	}
	if result.Status != dimse.StatusSuccess {
		return fmt.Errorf("ichwatch answered a slice with %s %s", result.Status, result.ErrorComment)
	}
	s.board.update(study, func(r *Row) (string, bool) {
		r.Sent++
		return "", false
	})
	return nil
}

// explicit is the syntax that phantoms are written in unless asked otherwise.
var explicit, _ = dicom.LookupTransferSyntax(dicom.ExplicitVRLittleEndian)

func render(p *phantom.Study, i int) image {
	var data bytes.Buffer
	if err := p.WriteDataSet(&data, i); err != nil {
		return image{err: fmt.Errorf("render phantom slice %d: %w", i+1, err)}
	}
	return image{instance: p.InstanceUID(i), dataSet: data.Bytes()}
}

// round draws one study of every class and pushes them one after the other.
func (s *scanner) round(ctx context.Context, seed uint64, slices int) error {
	var errs []error
	for i, class := range phantom.Classes() {
		p, err := phantom.New(phantom.Options{
			Seed: seed + uint64(i), Class: class, Rows: s.size, Columns: s.size, Slices: slices, Plain: true,
		})
		if err != nil {
			return err
		}
		// One study's trouble must not hide the others'.
		if err := s.push(ctx, p); err != nil {
			if ctx.Err() == nil {
				s.board.update(p.StudyUID(), func(*Row) (string, bool) { return err.Error(), true })
			}
			errs = append(errs, fmt.Errorf("%s: %w", class, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
