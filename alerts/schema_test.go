package alerts

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"testing"
	"time"
	"unicode/utf8"
)

// schema is as much of JSON Schema 2020-12 as the schemas here use. Unknown
// keywords fail the test, so that nothing in a schema goes unchecked.
type schema struct {
	Schema      string `json:"$schema"`
	ID          string `json:"$id"`
	Title       string `json:"title"`
	Description string `json:"description"`

	Type                 string             `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	OneOf                []*schema          `json:"oneOf"`
	Const                any                `json:"const"`
	Enum                 []any              `json:"enum"`
	Pattern              string             `json:"pattern"`
	Format               string             `json:"format"`
	Minimum              *float64           `json:"minimum"`
	Maximum              *float64           `json:"maximum"`
	MinLength            *int               `json:"minLength"`
	MaxLength            *int               `json:"maxLength"`
	Items                *schema            `json:"items"`
	MinItems             int                `json:"minItems"`
}

func loadSchema(t testing.TB, name string) *schema {
	t.Helper()
	f, err := Schemas.Open("schema/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := new(schema)
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// check returns what is wrong with v. closed refuses members that the schema
// does not name, whatever it says about them: what we send is described in full.
func (s *schema) check(v any, at string, closed bool) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, at+": "+fmt.Sprintf(format, args...)) }
	if s.Const != nil && v != s.Const {
		bad("%v is not %v", v, s.Const)
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		bad("%v is none of %v", v, s.Enum)
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "" && s.Type != "object" {
			bad("is an object, want %s", s.Type)
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				bad("%s is missing", name)
			}
		}
		for name, member := range v {
			if p := s.Properties[name]; p != nil {
				problems = append(problems, p.check(member, at+"."+name, closed)...)
			} else if s.Properties != nil && (closed || s.AdditionalProperties != nil && !*s.AdditionalProperties) {
				bad("%s is not in the schema", name)
			}
		}
		if s.OneOf != nil {
			n := 0
			for _, one := range s.OneOf {
				if len(one.check(v, at, closed)) == 0 {
					n++
				}
			}
			if n != 1 {
				bad("%d of the alternatives hold, want one", n)
			}
		}
	case []any:
		if s.Type != "" && s.Type != "array" {
			bad("is an array, want %s", s.Type)
		}
		if len(v) < s.MinItems {
			bad("has %d items", len(v))
		}
		for i, item := range v {
			if s.Items != nil {
				problems = append(problems, s.Items.check(item, fmt.Sprintf("%s[%d]", at, i), closed)...)
			}
		}
	case string:
		if s.Type != "" && s.Type != "string" {
			bad("is a string, want %s", s.Type)
		}
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			bad("%q does not match %s", v, s.Pattern)
		}
		if n := utf8.RuneCountInString(v); s.MinLength != nil && n < *s.MinLength || s.MaxLength != nil && n > *s.MaxLength {
			bad("has %d characters", n)
		}
		if _, err := time.Parse(time.RFC3339, v); s.Format == "date-time" && err != nil {
			bad("%q is no date-time", v)
		}
	case float64:
		if s.Type != "" && s.Type != "number" && (s.Type != "integer" || v != math.Trunc(v)) {
			bad("%v is not of type %s", v, s.Type)
		}
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			bad("%v is out of range", v)
		}
	default:
		bad("%T is not used in these messages", v)
	}
	return problems
}

func (s *schema) checkJSON(t testing.TB, data []byte, closed bool) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("not JSON: %v", err)
	}
	return s.check(v, "$", closed)
}

// The checker itself: one violation of every keyword is seen.
func TestSchemaCheckerSees(t *testing.T) {
	alert := loadSchema(t, "alert.v1.json")
	sound := func() map[string]any {
		var v map[string]any
		data, err := json.Marshal(sampleMessage())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if p := alert.check(sound(), "$", true); p != nil {
		t.Fatalf("a sound message: %v", p)
	}
	for name, spoil := range map[string]func(map[string]any){
		"const":     func(v map[string]any) { v["schema"] = "ichwatch.alert/v2" },
		"enum":      func(v map[string]any) { v["type"] = "shout" },
		"type":      func(v map[string]any) { v["seq"] = "1" },
		"integer":   func(v map[string]any) { v["seq"] = 1.5 },
		"pattern":   func(v map[string]any) { v["alert_id"] = "a-1" },
		"minimum":   func(v map[string]any) { v["seq"] = 0.0 },
		"maximum":   func(v map[string]any) { v["score"] = 1.01 },
		"minLength": func(v map[string]any) { v["site"] = "" },
		"format":    func(v map[string]any) { v["detected_at"] = "yesterday" },
		"required":  func(v map[string]any) { delete(v, "disclaimer") },
		"nested":    func(v map[string]any) { delete(v["models"].([]any)[1].(map[string]any), "sha256") },
		"minItems":  func(v map[string]any) { v["models"] = []any{} },
		"array":     func(v map[string]any) { v["models"] = "resnet18" },
		"no array":  func(v map[string]any) { v["site"] = []any{} },
		"oneOf":     func(v map[string]any) { v["study_pseudonym"] = "s-x" },
		"closed":    func(v map[string]any) { v["patient_name"] = "x" },
	} {
		v := sound()
		spoil(v)
		if p := alert.check(v, "$", true); len(p) != 1 {
			t.Errorf("%s: found %q, want one problem", name, p)
		}
	}
	shut := &schema{Properties: map[string]*schema{"by": {Type: "string"}}, AdditionalProperties: new(bool)}
	if p := shut.check(map[string]any{"by": "x", "to": "y"}, "$", false); len(p) != 1 {
		t.Errorf("additionalProperties: found %q, want one problem", p)
	}
}
