package manifest

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Adaptation is what a model that was adapted from another has of its own.
type Adaptation struct {
	Name         string
	SHA256       string           // of the model file, lower-case hex
	Points       []OperatingPoint // in place of all those of the model it comes from
	DefaultPoint string           // of Points, by its name
	// Provenance tells how it came about, besides adapted_from.
	Provenance map[string]any
}

// adaptedComment stands above an adapted manifest in place of what stood there.
const adaptedComment = "# Written by `ichwatch adapt`; adapt again rather than change it."

// Adapted gives the text of the manifest of a model that was adapted from m's.
// Everything stays as it is written, keys that this release does not know as
// well, but for what a has. No operating point of m stays: neither their
// thresholds nor what was expected of them hold any more. The provenance names the model that it was adapted from and keeps that one's own.
func (m *Manifest) Adapted(a Adaptation) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(m.text, &document); err != nil {
		return nil, fmt.Errorf("adapt the manifest of %s: %w", m.Name, err)
	}
	top := document.Content[0] // a mapping: it was loaded
	file := at(top, "model")
	if file == nil {
		return nil, fmt.Errorf("adapt the manifest of %s: it has no model", m.Name)
	}
	from := map[string]any{"name": m.Name, "sha256": m.SHA256()}
	if old := at(top, "provenance"); old != nil {
		from["provenance"] = old
	}
	provenance := map[string]any{"adapted_from": from}
	for key, value := range a.Provenance {
		provenance[key] = value
	}
	set := func(in *yaml.Node, key string, value any) error {
		n := &yaml.Node{}
		if err := n.Encode(value); err != nil {
			return fmt.Errorf("adapt the manifest of %s: %s: %w", m.Name, key, err)
		}
		if old := at(in, key); old != nil {
			*old = *n
			return nil
		}
		in.Content = append(in.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, n)
		return nil
	}
	for _, change := range []struct {
		in    *yaml.Node
		key   string
		value any
	}{
		{top, "name", a.Name},
		{file, "sha256", a.SHA256},
		{top, "operating_point", a.DefaultPoint},
		{top, "operating_points", a.Points},
		{top, "provenance", provenance},
	} {
		if err := set(change.in, change.key, change.value); err != nil {
			return nil, err
		}
	}
	document.HeadComment, top.HeadComment, top.Content[0].HeadComment = adaptedComment, "", ""
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&document); err != nil {
		return nil, fmt.Errorf("adapt the manifest of %s: %w", m.Name, err)
	}
	return out.Bytes(), e.Close()
}

// at gives the value of a key in a mapping, nil where it is not there.
func at(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
