package configs

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"ichwatch/dimse/dicom"
)

// Route says which objects go to a destination: those that meet it in all that it
// names. All but Outcomes are patterns, see [Pattern]; an empty list asks nothing.
type Route struct {
	CallingAETitles   []string `mapstructure:"calling_ae_titles"`
	CalledAETitles    []string `mapstructure:"called_ae_titles"`
	Modalities        []string `mapstructure:"modalities"`
	StationNames      []string `mapstructure:"station_names"`
	StudyDescriptions []string `mapstructure:"study_descriptions"`
	SOPClasses        []string `mapstructure:"sop_classes"` // of UIDs or names
	Outcomes          []string `mapstructure:"outcomes"`    // POSITIVE, NEGATIVE, NOT-ANALYSED, FAILED; empty: at once
}

// Outcomes are the ways in which a study may end.
var Outcomes = []string{"POSITIVE", "NEGATIVE", "NOT-ANALYSED", "FAILED"}

// Pattern compiles a pattern of a Route: a text in which * stands for any
// characters and ? for one, and that is to be the whole value; or, between
// slashes, a regular expression (RE2) to be found anywhere in it. Upper and lower
// case are the same.
func Pattern(text string) (*regexp.Regexp, error) {
	if expression, ok := betweenSlashes(text); ok {
		return regexp.Compile("(?i:" + expression + ")")
	}
	var b strings.Builder
	for _, r := range text {
		switch r {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteByte('.')
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return regexp.Compile("(?is:^" + b.String() + "$)")
}

func betweenSlashes(text string) (string, bool) {
	if len(text) < 2 || text[0] != '/' || text[len(text)-1] != '/' {
		return "", false
	}
	return text[1 : len(text)-1], true
}

// isPlain says whether a pattern is one text and nothing else.
func isPlain(text string) bool {
	_, expression := betweenSlashes(text)
	return !expression && !strings.ContainsAny(text, "*?")
}

// validateRoutes checks what goes to a destination.
func (d *document) validateRoutes(key string, routes []Route) {
	for i := range routes {
		r, at := &routes[i], entry(key, i)+"."
		for _, list := range []struct {
			name   string
			values []string
			check  func(key, value string)
		}{
			{"calling_ae_titles", r.CallingAETitles, d.plainTitle},
			{"called_ae_titles", r.CalledAETitles, d.plainTitle},
			{"modalities", r.Modalities, d.plainModality},
			{"station_names", r.StationNames, nil},
			{"study_descriptions", r.StudyDescriptions, nil},
			{"sop_classes", r.SOPClasses, d.plainSOPClass},
		} {
			for j, value := range list.values {
				key := entry(at+list.name, j)
				d.pattern(key, value)
				if list.check != nil && isPlain(value) {
					list.check(key, value)
				}
			}
			d.unique(at+list.name, list.values)
		}
		for j, outcome := range r.Outcomes {
			d.oneOf(entry(at+"outcomes", j), outcome, Outcomes...)
		}
		d.unique(at+"outcomes", r.Outcomes)
	}
}

func (d *document) pattern(key, value string) {
	wrong := &valueError{"is not a pattern", "a text with * for any characters and ? for one, or /a regular expression/", ""}
	switch _, err := Pattern(value); {
	case err != nil:
		if e, ok := errors.AsType[*syntax.Error](err); ok {
			wrong.wrong = "is not a regular expression: " + e.Code.String()
		}
	case value == "" || strings.TrimSpace(value) != value:
		wrong.wrong, wrong.suggestion = "begins or ends with a space, or is empty", strings.TrimSpace(value)
	case strings.Contains(value, ".*") || value[0] == '^' || value[len(value)-1] == '$':
		if _, ok := betweenSlashes(value); ok {
			return
		}
		wrong.wrong, wrong.suggestion = "looks like a regular expression, which stands between slashes", "/"+value+"/"
	default:
		return
	}
	d.reject(key, value, wrong)
}

func (d *document) plainTitle(key, value string) {
	if len(value) > 16 {
		d.reject(key, value, &valueError{"is no AE title and has no * or ?: nothing would meet it", "1 to 16 characters, or a pattern", ""})
	}
}

func (d *document) plainModality(key, value string) {
	if len(value) > 16 || strings.ContainsFunc(value, func(r rune) bool { return r > '~' || r < ' ' }) {
		d.reject(key, value, &valueError{"is no modality and has no * or ?: nothing would meet it", "as in CT, or a pattern", ""})
	}
}

func (d *document) plainSOPClass(key, value string) {
	var names []string
	for _, uid := range dicom.StorageSOPClasses() {
		names = append(names, uid.Name())
	}
	known := slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, value) })
	if !known && dicom.UID(value).Valid() != nil {
		d.reject(key, value, &valueError{"is neither a UID nor the name of a storage SOP class", "as in CT Image Storage, or a pattern", Nearest(value, names)})
	}
}

// takesAll says whether everything meets one of the routes, at once; where there
// are none it does.
func takesAll(routes []Route) bool {
	return len(routes) == 0 || slices.ContainsFunc(routes, func(r Route) bool {
		return len(r.CallingAETitles)+len(r.CalledAETitles)+len(r.Modalities)+len(r.StationNames)+
			len(r.StudyDescriptions)+len(r.SOPClasses)+len(r.Outcomes) == 0
	})
}

// warnOfRoutes names what of the routes is seldom meant.
func (c *Config) warnOfRoutes(warn func(key, wrong string)) {
	if len(c.Destinations) == 0 {
		return
	}
	if !slices.ContainsFunc(c.Destinations, func(d Destination) bool { return takesAll(d.Routes) }) {
		warn("destinations", "has no entry that takes everything: an object that meets no entry of any routes is kept here, sent nowhere and never removed")
	}
	if c.Triage.Enabled && len(c.Triage.Models) > 0 {
		return
	}
	for i, d := range c.Destinations {
		for j, r := range d.Routes {
			if len(r.Outcomes) > 0 && !slices.Contains(r.Outcomes, "NOT-ANALYSED") {
				warn(entry(entry("destinations", i)+".routes", j)+".outcomes", "is never met: without triage every study ends as NOT-ANALYSED")
			}
		}
	}
}
