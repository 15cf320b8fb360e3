package app

import (
	"context"
	"strings"
	"unicode/utf8"

	"ichwatch/daemon/console"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
)

// identify is what the site lets the page show of a study's patient
// (console.identity); nil for nothing. It is read from the file and kept nowhere.
func (a *App) identify() func(context.Context, spool.StudyRecord) (console.Identity, error) {
	switch a.cfg.Console.Identity {
	case "uid":
		return func(_ context.Context, r spool.StudyRecord) (console.Identity, error) {
			return console.Identity{StudyInstanceUID: string(r.StudyInstanceUID)}, nil
		}
	case "name":
		return a.identity
	}
	return nil
}

const (
	tagSpecificCharacterSet dicom.Tag = 0x0008_0005
	tagAccessionNumber      dicom.Tag = 0x0008_0050
	tagPatientName          dicom.Tag = 0x0010_0010
	tagPatientID            dicom.Tag = 0x0010_0020
)

func (a *App) identity(ctx context.Context, r spool.StudyRecord) (console.Identity, error) {
	id := console.Identity{StudyInstanceUID: string(r.StudyInstanceUID)}
	findings, err := a.spool.StudyFindings(ctx, r.StudyInstanceUID)
	if err != nil || len(findings) == 0 {
		return id, err
	}
	data, err := a.spool.OpenDataSet(ctx, findings[0].InstanceID)
	if err != nil {
		return id, err
	}
	defer data.Close()
	syntax, _ := dicom.LookupTransferSyntax(data.Instance.TransferSyntaxUID)
	header, err := dicom.Scan(data, syntax, dicom.ScanOptions{
		Want: func(t dicom.Tag) bool {
			return t == tagSpecificCharacterSet || t == tagAccessionNumber || t == tagPatientName || t == tagPatientID
		},
		MaxValue: 1024,
	})
	if err != nil {
		return id, err
	}
	latin := header.String(tagSpecificCharacterSet) == "ISO_IR 100"
	id.PatientName = personName(text(header.String(tagPatientName), latin))
	id.PatientID, id.Number = text(header.String(tagPatientID), latin), text(header.String(tagAccessionNumber), latin)
	return id, nil
}

// text is a value in UTF-8: as it is, from Latin-1, or with marks for what is in
// another character set.
func text(s string, latin bool) string {
	if utf8.ValidString(s) {
		return s
	}
	var out strings.Builder
	for _, b := range []byte(s) {
		switch {
		case b < 0x80 || latin:
			out.WriteRune(rune(b))
		default:
			out.WriteRune(utf8.RuneError)
		}
	}
	return out.String()
}

// personName puts a name of value representation PN (PS3.5 section 6.2) as people
// write it: family name, given names.
func personName(s string) string {
	alphabetic, _, _ := strings.Cut(s, "=")
	parts := strings.Split(alphabetic, "^")
	family, rest := parts[0], strings.TrimSpace(strings.Join(parts[1:], " "))
	if rest == "" {
		return family
	}
	return family + ", " + strings.Join(strings.Fields(rest), " ")
}
