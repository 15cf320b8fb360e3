package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds what is parsed: a configuration has some hundred lines.
const maxFile = 1 << 20

// document is a user's file on its way to a Config: its settings without what
// was found wrong, where each of them stands, and the problems so far.
type document struct {
	name     string
	settings map[string]any
	at       map[string]place // by key
	problems Problems
}

// place is where a key's value stands in the file and what stands there.
type place struct {
	line, column int
	text         string // of a single value
}

// readDocument parses the file and checks its shape against Config.
func readDocument(name string, data []byte) *document {
	d := &document{name: name, settings: map[string]any{}, at: map[string]place{}}
	root, ok := d.parse(data)
	if !ok || root == nil {
		return d
	}
	if s, ok := d.section("", root, reflect.TypeFor[Config]()); ok {
		d.settings = s
	}
	return d
}

// parse reads the one YAML document in data. A nil node is an empty file.
func (d *document) parse(data []byte) (*yaml.Node, bool) {
	if len(data) > maxFile {
		d.add(Problem{Line: 1, Column: 1, Wrong: "is too large for a configuration", Allowed: "up to " + Size(maxFile).String()})
		return nil, false
	}
	if line, column, ok := firstForeign(data); !ok {
		d.add(Problem{Line: line, Column: column, Wrong: "a byte here is not text in UTF-8"})
		return nil, false
	}
	var doc, next yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, true
	}
	if err != nil {
		d.syntax(data, err)
		return nil, false
	}
	if err := decoder.Decode(&next); err == nil {
		d.add(Problem{Line: max(1, next.Line), Column: max(1, next.Column), Wrong: "a second document begins here (---)", Allowed: "one document"})
		return nil, false
	} else if !errors.Is(err, io.EOF) {
		d.syntax(data, err)
		return nil, false
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, true
	}
	return root, true
}

// syntax notes that the file is not YAML. The parser tells the line only within
// its message; line 1 stands in where it tells none.
func (d *document) syntax(data []byte, err error) {
	p := Problem{Line: 1, Column: 1, Wrong: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "), Err: err}
	var line int
	if n, _ := fmt.Sscanf(err.Error(), "yaml: line %d:", &line); n == 1 && line > 0 {
		p.Line = line
		_, said, _ := strings.Cut(err.Error(), ": line ") // the place stands in front already
		_, said, _ = strings.Cut(said, ": ")
		p.Wrong = "is not YAML: " + said
	}
	for i, text := range bytes.Split(data, []byte("\n")) {
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		if column := bytes.IndexByte(indent, '\t'); column >= 0 {
			p.Line, p.Column, p.Wrong, p.Allowed = i+1, column+1, "a tab indents this line", "spaces"
			break
		}
	}
	d.add(p)
}

// firstForeign finds the first byte that no YAML file may hold.
func firstForeign(data []byte) (line, column int, ok bool) {
	line, column = 1, 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return line, column, false
		case r == '\n':
			line, column = line+1, 1
		default:
			column++
		}
		data = data[n:]
	}
	return 0, 0, true
}

// section walks a mapping against the struct type t and returns what of it may
// be decoded. ok is false where n is no mapping at all.
func (d *document) section(path string, n *yaml.Node, t reflect.Type) (settings map[string]any, ok bool) {
	if n.Kind != yaml.MappingNode {
		d.shape(path, n, "must hold keys", strings.Join(keysOf(t), ", "))
		return nil, false
	}
	settings = map[string]any{}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field, known := fieldOf(t, key)
		full := join(path, key.Value)
		if !known {
			d.unknown(path, key, t)
			continue
		}
		if first, twice := seen[key.Value]; twice {
			d.add(Problem{Line: key.Line, Column: key.Column, Key: full, Wrong: fmt.Sprintf("is given twice, first in line %d", first), Allowed: "one of them"})
			continue
		}
		seen[key.Value] = key.Line
		d.at[full] = place{line: key.Line, column: key.Column}
		if v, ok := d.value(full, value, field.Type); ok {
			settings[key.Value] = v
		}
	}
	for _, f := range fieldsOf(t) {
		key := f.Tag.Get("mapstructure")
		if _, given := seen[key]; !given && f.Tag.Get("must") != "" {
			d.add(Problem{Line: n.Line, Column: n.Column, Key: join(path, key), Wrong: "is missing", Allowed: "it must " + f.Tag.Get("must")})
		}
	}
	return settings, true
}

// value walks what stands behind a key. ok is false where nothing of it may be
// decoded; then the problem is noted, or the section is empty.
func (d *document) value(path string, n *yaml.Node, t reflect.Type) (any, bool) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.add(Problem{Line: n.Line, Column: n.Column, Key: path, Wrong: "is an alias", Allowed: "the value itself"})
		return nil, false
	case t.Kind() == reflect.Struct:
		// A section whose keys are all commented out is as good as absent.
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
			return nil, false
		}
		return d.section(path, n, t)
	case t.Kind() == reflect.Slice:
		return d.list(path, n, t.Elem())
	}
	return d.scalar(path, n)
}

// list walks a sequence. An entry that cannot be decoded leaves an empty one in
// its place, so that the others keep their numbers.
func (d *document) list(path string, n *yaml.Node, t reflect.Type) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		d.shape(path, n, "must be a list", "[...], or one entry a line with - in front; [] for none")
		return nil, false
	}
	items, sample := make([]any, len(n.Content)), sampleOf(path, t)
	for i, item := range n.Content {
		full := fmt.Sprintf("%s[%d]", path, i)
		d.at[full] = place{line: item.Line, column: item.Column}
		items[i] = reflect.Zero(t).Interface()
		if t.Kind() != reflect.Struct {
			if v, ok := d.value(full, item, t); ok {
				items[i] = v
			}
			continue
		}
		items[i] = map[string]any{}
		if item.Kind == yaml.AliasNode {
			d.value(full, item, t)
		} else if v, ok := d.section(full, item, t); ok {
			items[i] = overlay(sample, v)
		}
	}
	return items, true
}

// scalar reads a single value as YAML types it; whether it has the right type is
// seen when it is decoded.
func (d *document) scalar(path string, n *yaml.Node) (any, bool) {
	if n.Kind != yaml.ScalarNode {
		d.shape(path, n, "must be a single value", "")
		return nil, false
	}
	d.at[path] = place{line: n.Line, column: n.Column, text: n.Value}
	if n.ShortTag() == "!!null" {
		d.shape(path, n, "has no value", "a value; without the line the default holds")
		return nil, false
	}
	var v any
	if err := n.Decode(&v); err != nil {
		d.shape(path, n, "is not what its tag says", "a value without a tag")
		return nil, false
	}
	return v, true
}

// shape notes that something of another kind stands where path should.
func (d *document) shape(path string, n *yaml.Node, wrong, allowed string) {
	p := Problem{Line: n.Line, Column: n.Column, Key: path, Wrong: wrong, Allowed: allowed}
	if n.Kind == yaml.ScalarNode && !holdsSecret(path) {
		p.Value = n.Value
	}
	d.add(p)
}

// unknown notes a key that section path does not have. Its value is never
// repeated: it may be a secret.
func (d *document) unknown(path string, key *yaml.Node, t reflect.Type) {
	p := Problem{Line: key.Line, Column: key.Column, Wrong: "is not a key"}
	siblings := keysOf(t)
	switch {
	case key.Kind != yaml.ScalarNode:
		p.Key, p.Allowed = join(path, "?"), strings.Join(siblings, ", ")
		d.add(p)
		return
	case slices.Contains(siblings, key.Value+"_file"):
		p.Wrong, p.Allowed = "would put a secret into this file", "the path of a file that holds it"
		p.Suggestion = key.Value + "_file"
	case slices.Contains(secretWords, strings.ToLower(key.Value)):
		p.Wrong, p.Allowed = "would put a secret into this file", "secrets in files of their own, named by the keys that end in _file"
	default:
		if p.Suggestion = Nearest(key.Value, siblings); p.Suggestion == "" {
			p.Suggestion = elsewhere(key.Value)
		}
		if p.Suggestion == "" {
			p.Allowed = strings.Join(siblings, ", ")
		}
	}
	p.Key = join(path, quoteKey(key.Value))
	d.add(p)
}

var secretWords = []string{
	"password", "passwd", "passphrase", "pass", "pwd", "secret", "token", "api_key", "apikey",
	"private_key", "key", "credential", "credentials", "pin", "passcode", "users",
}

// holdsSecret says whether the value of a known key may be a secret that was put
// there by mistake, and so must not be repeated in a message.
func holdsSecret(key string) bool {
	return slices.ContainsFunc([]string{"password_file", "key_file", "passcode_file", "users_file"}, func(name string) bool {
		return strings.HasSuffix(key, name)
	})
}

// elsewhere finds the one place of the schema where a key of that name stands,
// for a key that was put under the wrong section.
func elsewhere(name string) string {
	var found []string
	for _, key := range allKeys(reflect.TypeFor[Config](), "") {
		if strings.HasSuffix(key, "."+strings.ToLower(name)) {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// add notes a problem of this file.
func (d *document) add(p Problem) {
	p.File = d.name
	d.problems = append(d.problems, p)
}

// decode lays the settings over the defaults and decodes them exactly.
func (d *document) decode() *Config {
	v := viper.New()
	for key, value := range defaults() {
		v.SetDefault(key, value)
	}
	c := new(Config)
	strict := func(dc *mapstructure.DecoderConfig) {
		dc.WeaklyTypedInput = false
		dc.DecodeHook = typedValues
	}
	err := errors.Join(v.MergeConfigMap(d.settings), v.UnmarshalExact(c, strict))
	d.mistyped(err)
	return c
}

// mistyped notes every decoding error in the tree of joined errors.
func (d *document) mistyped(err error) {
	switch e := err.(type) {
	case nil:
	case *mapstructure.DecodeError:
		d.reject(e.Name(), d.at[e.Name()].text, asValueError(e))
	case interface{ Unwrap() []error }:
		for _, e := range e.Unwrap() {
			d.mistyped(e)
		}
	case interface{ Unwrap() error }:
		d.mistyped(e.Unwrap())
	default:
		d.add(Problem{Line: 1, Column: 1, Wrong: "cannot be decoded: " + err.Error(), Err: err})
	}
}

// asValueError says in the user's words what mapstructure says in Go's.
func asValueError(err error) *valueError {
	if e, ok := errors.AsType[*valueError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*mapstructure.UnconvertibleTypeError](err); ok {
		switch e.Expected.Kind() {
		case reflect.String:
			return &valueError{"is not text", wantText, ""}
		case reflect.Bool:
			return &valueError{"is not a truth value", wantBool, ""}
		}
	}
	return &valueError{"cannot be taken: " + err.Error(), "", ""}
}

// reject notes that the value of key is wrong, at the key's place or that of the
// nearest section around it that stands in the file. A key is rejected once.
func (d *document) reject(key, value string, e *valueError) {
	if d.rejected(key) {
		return
	}
	p := Problem{Key: key, Value: value, Wrong: e.wrong, Allowed: e.allowed, Suggestion: e.suggestion}
	if at, ok := d.at[key]; ok && at.text != "" {
		p.Value = at.text
	}
	if holdsSecret(key) {
		p.Value = ""
	}
	p.Line, p.Column = nearestPlace(d.at, key)
	d.add(p)
}

// nearestPlace is that of key or of the nearest section around it that stands in the
// file; 0 where none does.
func nearestPlace(all map[string]place, key string) (line, column int) {
	for k := key; k != ""; k = parent(k) {
		if at, ok := all[k]; ok {
			return at.line, at.column
		}
	}
	return 0, 0
}

// fieldsOf are those of a section that are keys.
func fieldsOf(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return !f.IsExported() })
}

// rejected says whether key, or a section or list around it, is wrong already.
func (d *document) rejected(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		rest, ok := strings.CutPrefix(key, p.Key)
		return ok && (p.Key == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// join, parent and quoteKey know how keys are written: a.b[0].c
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func parent(key string) string {
	return key[:max(0, strings.LastIndexAny(key, ".["))]
}

// quoteKey leaves a plain word alone and makes anything else harmless.
func quoteKey(s string) string {
	plain := s != "" && len(s) <= 60 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	if plain {
		return s
	}
	return quote(s)
}

// keysOf lists the keys of one section in the order of the schema.
func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, f.Tag.Get("mapstructure"))
	}
	return keys
}

// allKeys lists every key below a section; those of a list's entries stand under
// the list: "destinations.address".
func allKeys(t reflect.Type, path string) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		key, ft := join(path, f.Tag.Get("mapstructure")), f.Type
		keys = append(keys, key)
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			keys = append(keys, allKeys(ft, key)...)
		}
	}
	return keys
}

func fieldOf(t reflect.Type, key *yaml.Node) (reflect.StructField, bool) {
	if key.Kind == yaml.ScalarNode {
		for _, f := range fieldsOf(t) {
			if f.Tag.Get("mapstructure") == key.Value {
				return f, true
			}
		}
	}
	return reflect.StructField{}, false
}

// defaults reads the embedded reference as it stands.
func defaults() map[string]any { return mustRead(reference) }

// sampleOf gives the defaults of a list's entries, which are of type t: the entry
// that the reference shows, commented out, without the keys that must be given.
func sampleOf(path string, t reflect.Type) map[string]any {
	if t.Kind() != reflect.Struct {
		return nil
	}
	section := mustRead(sample(reference))
	if above, below, nested := strings.Cut(path, "."); nested {
		section, _ = section[above].(map[string]any)
		path = below
	}
	list, ok := section[path].([]any)
	if !ok {
		return nil
	}
	first := list[0].(map[string]any)
	for _, f := range fieldsOf(t) {
		if f.Tag.Get("must") != "" {
			delete(first, f.Tag.Get("mapstructure"))
		}
	}
	return first
}

// sample uncomments the reference's sample lines: those whose # is followed by
// anything but a single space, which marks words. A section's own line stays.
func sample(reference []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(reference) {
		rest, comment := bytes.CutPrefix(line, []byte("#"))
		words := len(rest) > 1 && rest[0] == ' ' && rest[1] != ' '
		section := !comment && rest[0] >= 'a' && rest[0] <= 'z' && bytes.HasSuffix(rest, []byte(":\n"))
		if !comment && !section || words {
			rest = []byte("\n") // lines keep their numbers
		}
		b.Write(rest)
	}
	return b.Bytes()
}

func mustRead(data []byte) map[string]any {
	var m map[string]any
	if err := yaml.Unmarshal(data, &m); err != nil {
		panic(fmt.Sprintf("configs: the embedded reference is not YAML: %v", err))
	}
	return m
}

// overlay returns base with over laid on it, section by section.
func overlay(base, over map[string]any) map[string]any {
	result := map[string]any{}
	for k, v := range base {
		result[k] = v
	}
	for k, v := range over {
		below, isSection := v.(map[string]any)
		if b, ok := result[k].(map[string]any); ok && isSection {
			v = overlay(b, below)
		}
		result[k] = v
	}
	return result
}
