package manifest

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decode reads YAML into m by its yaml tags: an unknown key, one given twice or
// a value of another type is a problem of that key. The yaml package's own
// strictness stops short of naming keys, so the nodes are walked here.
func decode(text []byte, m *Manifest) *problems {
	p := &problems{lines: map[string]int{}}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	if err := d.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			p.list = append(p.list, Problem{Text: "is empty"})
		} else {
			p.list = append(p.list, Problem{Text: "is not YAML: " + err.Error()})
		}
		return p
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		p.list = append(p.list, Problem{Line: second.Line, Text: "holds more than one YAML document"})
	}
	if len(document.Content) > 0 {
		p.value("", document.Content[0], reflect.ValueOf(m).Elem())
	}
	return p
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// value decodes one node.
func (p *problems) value(key string, n *yaml.Node, v reflect.Value) {
	switch {
	case n.Kind == yaml.AliasNode:
		p.add(key, "is an alias; write the value out")
	case v.Addr().Type().Implements(textUnmarshaler):
		p.scalar(key, n, v)
	case v.Kind() == reflect.Pointer: // what may be left out
		v.Set(reflect.New(v.Type().Elem()))
		p.value(key, n, v.Elem())
	case v.Kind() == reflect.Struct:
		p.structure(key, n, v)
	case v.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			p.add(key, "is to be a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		p.items(key, n, v)
	case v.Kind() == reflect.Array:
		if n.Kind != yaml.SequenceNode || len(n.Content) != v.Len() {
			p.add(key, "is to be a list of %d", v.Len())
			return
		}
		p.items(key, n, v)
	case v.Kind() == reflect.Map && v.Type().Elem().Kind() != reflect.Interface:
		p.mapping(key, n, v)
	case v.Kind() == reflect.Map:
		p.free(key, n, v)
	default:
		p.scalar(key, n, v)
	}
}

// items decodes a sequence into a list of its length.
func (p *problems) items(key string, n *yaml.Node, v reflect.Value) {
	for i, item := range n.Content {
		inner := fmt.Sprintf("%s[%d]", key, i)
		p.lines[inner] = item.Line
		p.value(inner, item, v.Index(i))
	}
}

// keys gives the pairs of a mapping, less those that repeat a key.
func (p *problems) keys(key string, n *yaml.Node) (pairs [][2]*yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.add(key, "is to be a mapping of keys to values")
		return nil
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if line, twice := seen[k.Value]; twice {
			p.list = append(p.list, Problem{Line: k.Line, Key: join(key, k.Value), Text: fmt.Sprintf("is there twice, first in line %d", line)})
			continue
		}
		seen[k.Value] = k.Line
		p.lines[join(key, k.Value)] = k.Line
		pairs = append(pairs, [2]*yaml.Node{k, n.Content[i+1]})
	}
	return pairs
}

func (p *problems) structure(key string, n *yaml.Node, v reflect.Value) {
	fields := map[string]reflect.Value{}
	var names []string
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); name != "" {
			fields[name] = v.Field(i)
			names = append(names, name)
		}
	}
	for _, pair := range p.keys(key, n) {
		name := pair[0].Value
		field, known := fields[name]
		if !known {
			p.list = append(p.list, Problem{Line: pair[0].Line, Key: join(key, name), Text: "is not known; known are " + strings.Join(names, ", ")})
			continue
		}
		p.value(join(key, name), pair[1], field)
	}
}

// mapping decodes a map whose keys and values are both typed.
func (p *problems) mapping(key string, n *yaml.Node, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, pair := range p.keys(key, n) {
		name := reflect.New(v.Type().Key()).Elem()
		value := reflect.New(v.Type().Elem()).Elem()
		before := len(p.list)
		p.value(join(key, pair[0].Value), pair[0], name)
		p.value(join(key, pair[0].Value), pair[1], value)
		if len(p.list) == before {
			v.SetMapIndex(name, value)
		}
	}
}

// free decodes a mapping of whatever the author wished to say.
func (p *problems) free(key string, n *yaml.Node, v reflect.Value) {
	p.keys(key, n)
	if p.has(key) {
		return
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		p.add(key, "cannot be read: %v", err)
	}
}

// scalar decodes a single value. YAML's own conversions between types (yes to
// true, 1 to "1") are not wanted here.
func (p *problems) scalar(key string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		p.add(key, "is to be a single value")
		return
	}
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := t.UnmarshalText([]byte(n.Value)); err != nil {
			p.add(key, "%v", err)
		}
		return
	}
	want, tags := "text", []string{"!!str"}
	switch v.Kind() {
	case reflect.Int:
		want, tags = "a whole number", []string{"!!int"}
	case reflect.Float64:
		want, tags = "a number", []string{"!!int", "!!float"}
	}
	if !slices.Contains(tags, n.ShortTag()) || n.Decode(v.Addr().Interface()) != nil {
		p.add(key, "is %q, wanted is %s", n.Value, want)
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
