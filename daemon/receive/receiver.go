package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
)

// Receiver answers C-ECHO and C-STORE. Its exported fields are its
// configuration and must not change once it is in use; Spool alone is required.
type Receiver struct {
	Spool *spool.Spool
	// Log has one line per association, and at debug level one per object; nil
	// discards it.
	Log *slog.Logger

	// HighWatermark is the share of the disk in use, 0 to 1, from which on
	// Admit refuses associations; 0 sets no bound.
	HighWatermark float64
	// Reserve is the free space, in bytes, below which objects are refused.
	Reserve uint64
	// Disk measures the disk; nil is Spool.Disk.
	Disk func() (spool.Disk, error)

	open associations

	mu   sync.Mutex
	told time.Time // when the log last had why associations are refused
}

// tellInterval is how often it is worth a line that associations are refused for
// the disk's sake.
const tellInterval = time.Minute

// congested refuses an association, and logs now and then why.
func (r *Receiver) congested(level slog.Level, why string, attrs ...any) *dimse.Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.told) >= tellInterval {
		r.told = now
		r.log().Log(context.Background(), level, "associations are refused: "+why, attrs...)
	}
	return &dimse.RejectTemporaryCongestion
}

var (
	_ dimse.Handler             = (*Receiver)(nil)
	_ dimse.AssociationObserver = (*Receiver)(nil)
)

// Echo answers C-ECHO: if the line works thus far, it works.
func (r *Receiver) Echo(context.Context, *dimse.Association) dimse.Status {
	return dimse.StatusSuccess
}

// Store takes one object in. It answers success only when the spool has
// committed it.
func (r *Receiver) Store(ctx context.Context, a *dimse.Association, rq dimse.CStoreRQ, data io.Reader) dimse.Result {
	start := time.Now()
	log := r.log().With("association", a.ID())
	i, duplicate, err := r.store(ctx, a, rq, data, log)
	if err != nil {
		result := answer(err)
		level := slog.LevelWarn
		if n := r.open.refused(a.ID()); n&(n-1) != 0 { // the first, and then ever more rarely: it may send millions
			level = slog.LevelDebug
		}
		log.Log(ctx, level, "object refused", "status", result.Status.String(), "err", err)
		return result
	}
	r.open.stored(a.ID(), i)
	log.Debug("object stored", "study", i.Study, "instance", i.ID, "bytes", i.Size,
		"duplicate", duplicate != spool.DuplicateNo, "took", time.Since(start))
	return dimse.Result{Status: dimse.StatusSuccess}
}

func (r *Receiver) store(ctx context.Context, a *dimse.Association, rq dimse.CStoreRQ, data io.Reader, log *slog.Logger) (i spool.Instance, d spool.Duplicate, err error) {
	if err := r.room(); err != nil {
		return i, d, err
	}
	if err := errors.Join(rq.SOPClassUID.Valid(), rq.SOPInstanceUID.Valid()); err != nil {
		return i, d, refuse(dimse.StatusCannotUnderstand, "Affected SOP Class or Instance UID is no UID", err)
	}
	// A blank title, or one of odd characters, is no reason to lose an image.
	source, _ := dicom.ParseAETitle(string(a.CallingAETitle()))
	receiving, _ := dicom.ParseAETitle(string(a.CalledAETitle()))
	in, err := r.Spool.Create(dicom.FileMeta{
		SOPClassUID:       rq.SOPClassUID,
		SOPInstanceUID:    rq.SOPInstanceUID,
		TransferSyntaxUID: rq.TransferSyntax.UID,
		SourceAETitle:     source,
		ReceivingAETitle:  receiving,
	})
	if err != nil {
		return i, d, err
	}
	defer in.Discard()

	o := &object{data: data, in: in, room: r.room}
	h, fault := dicom.Scan(o, rq.TransferSyntax, dicom.ScanOptions{Want: placesObject})
	if o.err != nil {
		return i, d, o.err
	}
	if err := check(rq, h, fault); err != nil {
		return i, d, err
	}
	study := h.UID(dicom.TagStudyInstanceUID)
	r.Spool.StudyOpened(study, a.ID()) // before the spool can find it quiet
	if err := o.drain(); err != nil {
		return i, d, err
	}
	if i, d, err = in.Commit(ctx, h); err != nil {
		return i, d, err
	}
	if fault != nil {
		log.Warn("object is malformed behind its UIDs: kept and forwarded, but not to be analysed",
			"study", i.Study, "instance", i.ID, "err", fault)
	}
	return i, d, nil
}

// placesObject wants the attributes that check looks at, and those by which the
// spool files an object.
func placesObject(t dicom.Tag) bool {
	return t == dicom.TagSOPClassUID || t == dicom.TagSOPInstanceUID || spool.Describes(t)
}

// check refuses a data set that is not the one announced, or that cannot be
// placed in a study and a series. fault is what Scan found wrong with it.
func check(rq dimse.CStoreRQ, h *dicom.Header, fault error) error {
	for _, same := range []struct {
		name      string
		tag       dicom.Tag
		announced dicom.UID
	}{
		{"SOP Class UID", dicom.TagSOPClassUID, rq.SOPClassUID},
		{"SOP Instance UID", dicom.TagSOPInstanceUID, rq.SOPInstanceUID},
	} {
		if uid := h.UID(same.tag); uid != "" && uid != same.announced {
			return refuse(dimse.StatusDataSetMismatch, same.name+" differs between command and data set", nil)
		}
	}
	for _, needed := range []struct {
		name string
		tag  dicom.Tag
	}{
		{"SOP Class UID", dicom.TagSOPClassUID},
		{"SOP Instance UID", dicom.TagSOPInstanceUID},
		{"Study Instance UID", dicom.TagStudyInstanceUID},
		{"Series Instance UID", dicom.TagSeriesInstanceUID},
	} {
		uid := h.UID(needed.tag)
		switch err := uid.Valid(); {
		case err == nil:
		case uid != "":
			return refuse(dimse.StatusCannotUnderstand, needed.name+" of the data set is no UID", err)
		case fault != nil:
			return refuse(dimse.StatusCannotUnderstand, "data set malformed before its "+needed.name, fault)
		default:
			return refuse(dimse.StatusCannotUnderstand, "data set has no "+needed.name, nil)
		}
	}
	return nil
}

// Admit refuses associations while the disk is nearly full, or fails; it is made to be a
// dimse.Server's Admit. The refusal is transient, so that the peer keeps its
// objects and tries again. Who stores nothing gets in: whoever watches this
// program with a C-ECHO must not think it dead, and a storage commitment may be
// what makes room.
func (r *Receiver) Admit(_ context.Context, rq dimse.AssociateRequestInfo) *dimse.Rejection {
	stores := slices.ContainsFunc(rq.Contexts, func(pc dimse.ProposedContext) bool {
		return pc.AbstractSyntax != dicom.Verification && pc.AbstractSyntax != dicom.StorageCommitmentPushModel
	})
	if !stores {
		return nil
	}
	if err := r.Spool.Fit(); err != nil {
		return r.congested(slog.LevelError, "nothing can be stored", "err", err)
	}
	if r.HighWatermark <= 0 {
		return nil
	}
	disk, err := r.disk()
	if err != nil {
		return r.congested(slog.LevelError, "the spool's disk cannot be measured; check that it is mounted", "err", err)
	}
	if used := disk.InUse(); used >= r.HighWatermark {
		return r.congested(slog.LevelWarn, "the disk is nearly full; see which destination holds up removal, or give the spool more space",
			"in_use", fmt.Sprintf("%.1f%%", 100*used), "high_watermark", fmt.Sprintf("%.1f%%", 100*r.HighWatermark))
	}
	return nil
}

// errReserve is the cause of a refusal before the disk is quite full: what is
// left is for the ledger, which has to note findings and deliveries to the last.
var errReserve = fmt.Errorf("free space is below the reserve: %w", spool.ErrFull)

// room returns an error matching spool.ErrFull if no object may be taken in.
func (r *Receiver) room() error {
	disk, err := r.disk()
	if err != nil {
		return err
	}
	if disk.Free < r.Reserve {
		return errReserve
	}
	return nil
}

func (r *Receiver) disk() (spool.Disk, error) {
	if r.Disk != nil {
		return r.Disk()
	}
	return r.Spool.Disk()
}

func (r *Receiver) log() *slog.Logger {
	if r.Log != nil {
		return r.Log
	}
	return slog.New(slog.DiscardHandler)
}
