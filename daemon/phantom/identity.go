package phantom

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"ichwatch/dimse/dicom"
)

// generation goes into every UID. It rises when the same options begin to give
// other pixels, so that one SOP Instance UID never names two pictures.
const generation = 1

// identity is who the study says it is of, plainly invented, and its UIDs.
type identity struct {
	name, id, birth, sex string
	age                  string
	accession            string
	date                 time.Time
	study, series, frame dicom.UID
	key                  string
}

func newIdentity(d draw, o Options, h *head) identity {
	tilt := "drawn"
	if o.GantryTilt != nil {
		tilt = fmt.Sprint(*o.GantryTilt)
	}
	var id identity
	// whatever changes the pixels changes the UIDs
	id.key = fmt.Sprintf("ichwatch phantom %d/%d/%s/%d/%dx%d/%d/%g/%g/%s/%t",
		generation, o.Seed, o.Class, o.Number, o.Rows, o.Columns, o.Slices, o.SliceThickness, o.FieldOfView, tilt, o.Plain)
	number := o.Number
	if number == 0 {
		number = int(o.Seed % 10000)
	}
	hash := sha256.Sum256([]byte(id.key))
	id.name = fmt.Sprintf("PHANTOM^%s^%04d", strings.ToUpper(o.Class.String()), number)
	id.id = fmt.Sprintf("ICHW-%X", hash[:6])
	id.accession = fmt.Sprintf("P%X", hash[6:12])
	id.date = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(d.r.Int64N(365*24*3600)) * time.Second)
	years := int(math.Floor(float64(h.age)))
	id.age = fmt.Sprintf("%03dY", years)
	id.birth = id.date.AddDate(-years, 0, -1-d.intn(360)).Format("20060102")
	id.sex = "M"
	if h.female {
		id.sex = "F"
	}
	id.study, id.series, id.frame = id.uid("study"), id.uid("series"), id.uid("frame of reference")
	return id
}

// uid derives a UID under 2.25 (PS3.5 B.2) from the study's key: a UUID of
// version 8 (RFC 9562), its bits taken from a hash.
func (id *identity) uid(part string) dicom.UID {
	h := sha256.Sum256([]byte(id.key + "/" + part))
	u := h[:16]
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return dicom.UID("2.25." + new(big.Int).SetBytes(u).String())
}

func (id *identity) instance(i int) dicom.UID { return id.uid(fmt.Sprintf("instance %d", i)) }

// StudyUID returns the Study Instance UID.
func (s *Study) StudyUID() dicom.UID { return s.id.study }

// SeriesUID returns the Series Instance UID.
func (s *Study) SeriesUID() dicom.UID { return s.id.series }

// InstanceUID returns the SOP Instance UID of slice i.
func (s *Study) InstanceUID(i int) dicom.UID { return s.id.instance(i) }
