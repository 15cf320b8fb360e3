package triage

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"ichwatch/dimse/dicom"
)

// Gate says which slices a model may see. What it refuses is stored and
// forwarded like everything else. Texts are compared without regard to case.
type Gate struct {
	// Closed, when not empty, refuses everything and is the reason: for a site
	// that wants forwarding alone.
	Closed string

	Modalities       []string // Modality (0008,0060) is one of these; empty: CT
	RefuseImageTypes []string // no value of Image Type (0008,0008) is one of these
	BodyParts        []string // Body Part Examined (0018,0015) is one of these; empty: any
	// AcceptMissingBodyPart lets slices through that name no body part.
	AcceptMissingBodyPart bool
	// ProtocolWords: one of them stands in Protocol Name (0018,1030), Series
	// Description (0008,103E) or Study Description (0008,1030); empty: any.
	ProtocolWords []string
	// RefuseProtocolWords: none of them stands there.
	RefuseProtocolWords []string
	// RefuseContrast refuses slices that name a contrast agent (0018,0010).
	RefuseContrast bool
	// MaxTilt is how far, in degrees, a slice may be tilted out of the axial
	// plane; 0: 45, which a tilted gantry never reaches and no coronal or
	// sagittal reformation comes down to.
	MaxTilt float64
}

// criterion is one question of the gate. refuse returns why h is refused, ""
// when it is not.
type criterion struct {
	name   string
	refuse func(g *Gate, h *dicom.Header) string
}

// criteria are asked in this order; the first refusal is the reason. The SOP
// class comes before them, from the ledger.
var criteria = []criterion{
	{"modality", func(g *Gate, h *dicom.Header) string {
		wanted := g.Modalities
		if len(wanted) == 0 {
			wanted = []string{"CT"}
		}
		if matchesAny(h.String(dicom.TagModality), wanted) {
			return ""
		}
		return "modality is not " + list(wanted)
	}},
	{"image type", func(g *Gate, h *dicom.Header) string {
		for _, refused := range g.RefuseImageTypes {
			if slices.ContainsFunc(h.Strings(dicom.TagImageType), func(v string) bool { return strings.EqualFold(v, refused) }) {
				return "image type " + refused
			}
		}
		return ""
	}},
	{"body part", func(g *Gate, h *dicom.Header) string {
		part := h.String(dicom.TagBodyPartExamined)
		switch {
		case len(g.BodyParts) == 0 || matchesAny(part, g.BodyParts) || part == "" && g.AcceptMissingBodyPart:
			return ""
		case part == "":
			return "no body part is named"
		}
		return "body part is not " + list(g.BodyParts)
	}},
	{"protocol words", func(g *Gate, h *dicom.Header) string {
		var text strings.Builder
		for _, t := range []dicom.Tag{dicom.TagProtocolName, dicom.TagSeriesDescription, dicom.TagStudyDescription} {
			text.WriteString(strings.ToUpper(h.String(t)) + "\n")
		}
		contains := func(word string) bool { return strings.Contains(text.String(), strings.ToUpper(word)) }
		if i := slices.IndexFunc(g.RefuseProtocolWords, contains); i >= 0 {
			return "protocol or description contains " + g.RefuseProtocolWords[i]
		}
		if len(g.ProtocolWords) > 0 && !slices.ContainsFunc(g.ProtocolWords, contains) {
			return "neither protocol nor description contains " + list(g.ProtocolWords)
		}
		return ""
	}},
	{"contrast", func(g *Gate, h *dicom.Header) string {
		agent := h.String(dicom.TagContrastBolusAgent)
		if !g.RefuseContrast || agent == "" || matchesAny(agent, []string{"NONE", "NO"}) {
			return ""
		}
		return "contrast agent given"
	}},
	{"pixels", func(_ *Gate, h *dicom.Header) string {
		grey := []string{"MONOCHROME1", "MONOCHROME2"}
		if matchesAny(h.String(dicom.TagPhotometricInterpretation), grey) {
			return ""
		}
		return "photometric interpretation is not " + list(grey)
	}},
	{"rescale", func(_ *Gate, h *dicom.Header) string {
		if len(floats(h, dicom.TagRescaleSlope)) == 1 && len(floats(h, dicom.TagRescaleIntercept)) == 1 {
			return ""
		}
		return "no rescale slope and intercept: no Hounsfield units"
	}},
	{"place", func(_ *Gate, h *dicom.Header) string {
		if _, ok := planeOf(h); ok {
			return ""
		}
		return "no usable position and orientation"
	}},
	{"orientation", func(g *Gate, h *dicom.Header) string {
		limit := g.MaxTilt
		if limit == 0 {
			limit = 45
		}
		if p, ok := planeOf(h); ok && p.tilt() <= limit {
			return ""
		}
		return fmt.Sprintf("not axial within %g degrees", limit)
	}},
}

// Refuse returns why an object is not for the model, "" when it may see it.
// class is the object's SOP class.
func (g *Gate) Refuse(class dicom.UID, h *dicom.Header) string {
	if reason := g.refuseClass(class); reason != "" {
		return reason
	}
	for _, c := range criteria {
		if reason := c.refuse(g, h); reason != "" {
			return reason
		}
	}
	return ""
}

// refuseClass is what can be said without the header, however damaged it is.
func (g *Gate) refuseClass(class dicom.UID) string {
	switch {
	case g.Closed != "":
		return g.Closed
	case !slices.Contains(SOPClasses(), class):
		if class.Valid() != nil {
			return "SOP class is not CT Image Storage"
		}
		return "SOP class is " + class.Name()
	}
	return ""
}

func matchesAny(s string, wanted []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(s, w) })
}

// list gives words as "A, B or C".
func list(words []string) string {
	last := len(words) - 1
	if last <= 0 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// vector is a direction or place in the patient's coordinates, in mm: x to the
// left, y to the back, z to the head (PS3.3 section C.7.6.2.1.1).
type vector [3]float64

func (a vector) dot(b vector) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

func (a vector) cross(b vector) vector {
	return vector{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}

// plane is where a slice lies.
type plane struct {
	origin vector // centre of the first pixel
	normal vector // of length 1
}

// planeOf reads (0020,0032) and (0020,0037). ok is false where they are missing
// or describe no plane.
func planeOf(h *dicom.Header) (p plane, ok bool) {
	origin, cosines := floats(h, dicom.TagImagePositionPatient), floats(h, dicom.TagImageOrientationPatient)
	if len(origin) != 3 || len(cosines) != 6 {
		return plane{}, false
	}
	copy(p.origin[:], origin)
	row, column := vector(cosines[:3]), vector(cosines[3:])
	const slack = 1e-2 // scanners round their cosines
	if math.Abs(row.dot(row)-1) > slack || math.Abs(column.dot(column)-1) > slack || math.Abs(row.dot(column)) > slack {
		return plane{}, false
	}
	n := row.cross(column)
	length := math.Sqrt(n.dot(n))
	for i := range n {
		p.normal[i] = n[i] / length
	}
	const farthest = 1e5 // mm; no scanner is that long
	return p, math.Abs(p.position()) < farthest
}

// position is how far along the normal the slice lies, in mm: what orders
// slices, whatever their instance numbers say.
func (p plane) position() float64 { return p.origin.dot(p.normal) }

// tilt is the angle between the slice and the axial plane, in degrees.
func (p plane) tilt() float64 {
	return math.Acos(min(math.Abs(p.normal[2]), 1)) * 180 / math.Pi
}

// floats returns the values of t, none where they are absent or no numbers.
func floats(h *dicom.Header, t dicom.Tag) []float64 {
	values, err := h.Floats(t)
	if err != nil {
		return nil
	}
	return values
}
