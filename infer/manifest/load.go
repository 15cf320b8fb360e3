package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"ichwatch/infer"
	"ichwatch/infer/graph"
)

// Limits on what is read into memory.
const (
	maxManifest = 1 << 20
	maxModel    = 512 << 20
)

// Load reads the model folder dir: its manifest and the model file beside it, and
// verifies both. What is wrong with them comes as one *InvalidError.
func Load(dir string) (*Manifest, error) {
	// Nothing outside the folder is read, whatever the manifest or a link says.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open model folder: %w", err)
	}
	defer root.Close()
	return LoadFS(root.FS(), dir)
}

// LoadFS is Load for a folder that is embedded, or anything else that is no
// folder on disk; where names it in errors.
func LoadFS(folder fs.FS, where string) (*Manifest, error) {
	file := filepath.Join(where, FileName)
	text, err := readFile(folder, FileName, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w; is %s a model folder?", err, where)
	}
	m := Manifest{where: file, text: text}
	p := decode(text, &m)
	if p.validate(&m) {
		p.load(folder, &m)
	}
	if err := p.err(file); err != nil {
		return nil, err
	}
	return &m, nil
}

// errTooLarge is a file past its limit.
var errTooLarge = errors.New("is larger than a model may be")

func readFile(folder fs.FS, name string, limit int64) ([]byte, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is no regular file")}
	}
	if info.Size() > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w: %d bytes, at most %d", errTooLarge, info.Size(), limit)}
	}
	// One allocation of the right size; the file may still be growing.
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

// load reads, hashes and inspects the model file.
func (p *problems) load(folder fs.FS, m *Manifest) {
	if p.has("model") {
		return
	}
	model, err := readFile(folder, m.File.Name, maxModel)
	if err != nil {
		p.list = append(p.list, Problem{Line: p.line("model.file"), Key: "model.file", Text: err.Error(), Err: err})
		return
	}
	sum := sha256.Sum256(model)
	if got := hex.EncodeToString(sum[:]); got != m.File.SHA256 {
		p.add("model.sha256", "%s has SHA-256 %s: it is damaged or another model than the one described here", m.File.Name, got)
		return
	}
	g, err := graph.Inspect(model)
	if err != nil {
		p.add("model.file", "%s: %v", m.File.Name, err)
		return
	}
	p.signature(m, g)
	m.model = model
}

// validate checks every value. It gives false where the file is not this schema's
// and its values may mean anything.
func (p *problems) validate(m *Manifest) bool {
	if len(p.lines) == 0 {
		if len(p.list) == 0 {
			p.list = append(p.list, Problem{Text: "is empty"})
		}
		return false
	}
	if m.Schema != Schema {
		if !p.has("schema") {
			p.add("schema", "is %d, this release reads %d", m.Schema, Schema)
		}
		return false
	}
	p.text("name", m.Name)
	p.text("architecture", m.Architecture)
	p.file(m.File)
	p.text("input.name", m.Input.Name)
	p.within("input.height", float64(m.Input.Height), 16, 1024)
	p.within("input.width", float64(m.Input.Width), 16, 1024)
	p.pixels(m)
	p.text("outputs.logits", m.Outputs.Logits)
	if m.Outputs.CAM != "" && m.Outputs.CAM == m.Outputs.Logits {
		p.add("outputs.cam", "is the same output as logits")
	}
	p.classes(m)
	for i, precision := range m.Precisions {
		p.oneOf(fmt.Sprintf("precisions[%d]", i), precision, Float16, Int8)
	}
	p.points(m)
	p.rule(m.StudyRule)
	p.usual(m.Usual)
	p.text("intended_use", m.IntendedUse)
	return true
}

// pixels checks what is done between HU and model input.
func (p *problems) pixels(m *Manifest) {
	if n := len(m.Windows); (n < 1 || n > 8) && !p.has("windows") {
		p.add("windows", "has %d windows, wanted are 1 to 8, one for each channel", n)
	}
	for i, w := range m.Windows {
		p.within(fmt.Sprintf("windows[%d].centre", i), w.Centre, -2048, 4096)
		p.within(fmt.Sprintf("windows[%d].width", i), w.Width, 1, 8192)
	}
	p.within("crop.threshold", m.Crop.Threshold, -1000, 1000)
	p.within("crop.margin", m.Crop.Margin, 0, 1)
	p.within("crop.minimum_area", m.Crop.MinimumArea, 0, 0.9)
	p.oneOf("resample", m.Resample, ResampleTriangle)
	for _, list := range []struct {
		key      string
		values   []float64
		min, max float64
	}{
		{"normalisation.mean", m.Normalisation.Mean, -10, 10},
		{"normalisation.std", m.Normalisation.Std, 1e-3, 10},
	} {
		if len(list.values) != len(m.Windows) && !p.has(list.key) {
			p.add(list.key, "has %d values, wanted is one for each of %d windows", len(list.values), len(m.Windows))
		}
		for i, v := range list.values {
			p.within(fmt.Sprintf("%s[%d]", list.key, i), v, list.min, list.max)
		}
	}
}

func (p *problems) classes(m *Manifest) {
	seen := map[infer.Class]bool{}
	for i, c := range m.Classes {
		if key := fmt.Sprintf("classes[%d]", i); seen[c] && !p.has(key) {
			p.add(key, "%s is there twice", c)
		}
		seen[c] = true
	}
	whole := !p.has("classes")
	if whole && !seen[infer.Normal] && m.Activation == Softmax {
		p.add("classes", "normal is missing: with softmax every slice would be a hemorrhage")
	}
	bleeds := 0
	for c := range seen {
		if c.Hemorrhage() {
			bleeds++
		}
	}
	if whole && bleeds == 0 {
		p.add("classes", "names no hemorrhage class")
	}
	p.oneOf("activation", string(m.Activation), string(Softmax), string(Sigmoid))
}

func (p *problems) rule(r StudyRule) {
	p.oneOf("study_rule.kind", string(r.Kind), string(RuleAdjacent), string(RuleEvidence))
	switch r.Kind {
	case RuleAdjacent:
		p.foreign("study_rule", r.Kind, "power", "slice_mm", "head_mm")
		p.within("study_rule.slices", float64(r.Slices), 1, 64)
		p.within("study_rule.of", float64(r.Of), 1, 64)
		if r.Of < r.Slices && !p.has("study_rule.of") && !p.has("study_rule.slices") {
			p.add("study_rule.of", "is %d, fewer than the %d slices that are to be found among them", r.Of, r.Slices)
		}
	case RuleEvidence:
		p.foreign("study_rule", r.Kind, "slices", "of")
		p.within("study_rule.power", r.Power, 0.1, 4)
		p.within("study_rule.slice_mm", r.SliceThickness, 0.1, 100)
		p.within("study_rule.head_mm", r.HeadHeight, 0.1, 1000)
	}
	p.within("study_rule.minimum_slices", float64(r.MinimumSlices), 1, 1000)
	p.within("study_rule.maximum_gap_mm", r.MaximumGap, 0.1, 100)
}

func (p *problems) usual(u *Usual) {
	if u == nil {
		return
	}
	for name, s := range map[string]*Spread{"tissue_hu": u.TissueHU, "tissue_sd_hu": u.TissueSD, "pixel_mm": u.Pixel, "slice_mm": u.Thickness} {
		if s != nil {
			p.within("usual."+name+".mean", s.Mean, -200, 200)
			p.within("usual."+name+".sd", s.SD, 1e-3, 200)
		}
	}
	if r := u.PositiveRate; r != nil {
		if p.within("usual.positive_rate", r[0], 0, 1); r[1] < r[0] || r[1] > 1 {
			p.add("usual.positive_rate", "is %v to %v, wanted are two shares of 1, the lower first", r[0], r[1])
		}
	}
}

// foreign refuses keys that a rule of this kind does not look at.
func (p *problems) foreign(rule string, kind RuleKind, names ...string) {
	for _, name := range names {
		key := join(rule, name)
		if _, there := p.lines[key]; there && !p.has(key) {
			p.add(key, "does not belong to a study rule of kind %s", kind)
		}
	}
}

func (p *problems) file(f File) {
	p.text("model.file", f.Name)
	if f.Name != "" && (f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".")) {
		p.add("model.file", "is %q, wanted is the name of a file beside the manifest", f.Name)
	}
	if p.has("model.sha256") {
		return
	}
	if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != sha256.Size || f.SHA256 != strings.ToLower(f.SHA256) {
		p.add("model.sha256", "is %q, wanted are 64 digits of lower-case hex: sha256sum %s", f.SHA256, f.Name)
	}
}

func (p *problems) text(key, value string) {
	if strings.TrimSpace(value) == "" && !p.has(key) {
		p.add(key, "is missing")
	}
}

func (p *problems) within(key string, value, low, high float64) {
	if p.has(key) {
		return
	}
	if _, there := p.lines[key]; !there {
		p.add(key, "is missing")
		return
	}
	if math.IsNaN(value) || value < low || value > high {
		p.add(key, "is %v, wanted is %v to %v", value, low, high)
	}
}

func (p *problems) oneOf(key, value string, known ...string) {
	if p.has(key) {
		return
	}
	for _, k := range known {
		if value == k {
			return
		}
	}
	if value == "" {
		p.add(key, "is missing, known is %s", strings.Join(known, " or "))
		return
	}
	p.add(key, "is %q, known is %s", value, strings.Join(known, " or "))
}
