package app

import (
	"slices"
	"testing"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/spool"
	"ichwatch/dimse/dicom"
)

func TestRouter(t *testing.T) {
	ct := spool.Traits{
		CallingAETitle: "CT1", CalledAETitle: "TRAUMA", SOPClassUID: dicom.CTImageStorage,
		Modality: "CT", StationName: "CT-EMERGENCY", StudyDescription: "CCT Head nativ",
	}
	sr := ct
	sr.CalledAETitle, sr.SOPClassUID, sr.Modality = "ICHWATCH", "1.2.840.10008.5.1.4.1.1.88.67", "SR"
	at := func(outcomes ...alerts.Outcome) *spool.Way { return &spool.Way{Destination: "d", Outcomes: outcomes} }
	for name, c := range map[string]struct {
		routes []configs.Route
		ct, sr *spool.Way // nil: not there
	}{
		"no routes":                 {nil, at(), at()},
		"an entry without a word":   {[]configs.Route{{}}, at(), at()},
		"calling":                   {[]configs.Route{{CallingAETitles: []string{"ct?"}}}, at(), at()},
		"called":                    {[]configs.Route{{CalledAETitles: []string{"TRAUMA"}}}, at(), nil},
		"modality":                  {[]configs.Route{{Modalities: []string{"MR", "CT"}}}, at(), nil},
		"station":                   {[]configs.Route{{StationNames: []string{"*emergency"}}}, at(), at()},
		"description":               {[]configs.Route{{StudyDescriptions: []string{"/spine|neck/"}}}, nil, nil},
		"class by name":             {[]configs.Route{{SOPClasses: []string{"CT Image Storage"}}}, at(), nil},
		"class by UID":              {[]configs.Route{{SOPClasses: []string{"1.2.840.10008.5.1.4.1.1.88.*"}}}, nil, at()},
		"all that is named":         {[]configs.Route{{Modalities: []string{"CT"}, StudyDescriptions: []string{"*spine*"}}}, nil, nil},
		"any of the entries":        {[]configs.Route{{Modalities: []string{"MR"}}, {StudyDescriptions: []string{"*head*"}}}, at(), at()},
		"outcome":                   {[]configs.Route{{Outcomes: []string{"POSITIVE"}}}, at(alerts.Positive), at(alerts.Positive)},
		"outcomes of two entries":   {[]configs.Route{{Outcomes: []string{"POSITIVE"}}, {Modalities: []string{"CT"}, Outcomes: []string{"FAILED", "POSITIVE"}}}, at(alerts.Failed, alerts.Positive), at(alerts.Positive)},
		"at once before an outcome": {[]configs.Route{{Outcomes: []string{"POSITIVE"}}, {Modalities: []string{"CT"}}}, at(), at(alerts.Positive)},
	} {
		route, err := newRouter(&configs.Config{Destinations: []configs.Destination{{Name: "d", Routes: c.routes}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range []struct {
			traits spool.Traits
			want   *spool.Way
		}{{ct, c.ct}, {sr, c.sr}} {
			var want []spool.Way
			if of.want != nil {
				want = []spool.Way{*of.want}
			}
			same := func(a, b spool.Way) bool {
				return a.Destination == b.Destination && slices.Equal(a.Outcomes, b.Outcomes)
			}
			if got := route(of.traits); !slices.EqualFunc(got, want, same) {
				t.Errorf("%s: %s goes to %v, want %v", name, of.traits.Modality, got, want)
			}
		}
	}
}
