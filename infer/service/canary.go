package service

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"ichwatch/infer"
)

// Case is a slice whose truth is known.
type Case struct {
	Image *infer.Image
	Bleed bool
}

// leastAUC is how well a model must tell slices with a bleed from those without.
// One that guesses has 0.5.
const leastAUC = 0.7

// What may lie between two answers to the same slice: rounding, by other kernels or
// another provider.
const (
	canaryAbsolute = 0.1
	canaryRelative = 0.04
)

// Canary failures.
var (
	ErrCanaryTruth   = errors.New("the model does not tell phantom slices with a bleed from those without")
	ErrCanaryDiffers = errors.New("the model answers otherwise than when it came into service")
	ErrCanaryInput   = errors.New("phantom slices are no longer decoded as they were")
)

// Canary is what a model said of the slices with known truth.
type Canary struct {
	Slices int     `json:"slices"`
	AUC    float64 `json:"auc"` // of any hemorrhage
}

// answers is what is kept of a canary to hold later ones against.
type answers struct {
	Version string      `json:"version"` // of the program, which makes the slices
	Input   string      `json:"input"`   // SHA-256 of the slices
	Logits  [][]float32 `json:"logits"`  // slice by slice; of several models, the log-odds
}

const canaryName = "canary.json"

// run has a classifier answer to the cases.
func run(ctx context.Context, c infer.Classifier, classes []infer.Class, cases []Case, version string) (Canary, *answers, error) {
	a := &answers{Version: version, Input: fingerprint(cases)}
	normal := slices.Index(classes, infer.Normal)
	var calm, found []float64
	for i, one := range cases {
		s, err := c.Classify(ctx, one.Image)
		if err != nil {
			return Canary{}, nil, fmt.Errorf("canary, slice %d: %w", i, err)
		}
		for _, l := range s.Logits {
			if f := float64(l); math.IsNaN(f) || math.IsInf(f, 0) {
				return Canary{}, nil, fmt.Errorf("canary, slice %d: a logit is %v", i, l)
			}
		}
		a.Logits = append(a.Logits, s.Logits)
		if any := suspicion(s.Probabilities, normal); one.Bleed {
			found = append(found, any)
		} else {
			calm = append(calm, any)
		}
	}
	result := Canary{Slices: len(cases), AUC: auc(found, calm)}
	if !(result.AUC >= leastAUC) {
		return result, a, fmt.Errorf("%w: AUC %.2f on %d slices, at least %.2f is asked for", ErrCanaryTruth, result.AUC, result.Slices, leastAUC)
	}
	return result, a, nil
}

// suspicion of any hemorrhage: 1 less that of none or, for models that do not know
// none, the highest.
func suspicion(p []float32, normal int) float64 {
	if normal >= 0 {
		return 1 - float64(p[normal])
	}
	return float64(slices.Max(p))
}

// auc is the share of pairs that stand in the right order.
func auc(found, calm []float64) float64 {
	right := 0.0
	for _, f := range found {
		for _, c := range calm {
			switch {
			case f > c:
				right++
			case f == c:
				right += 0.5
			}
		}
	}
	return right / float64(len(found)*len(calm))
}

// compare holds answers against earlier ones.
func (a *answers) compare(before *answers) error {
	if a.Input != before.Input && a.Version == before.Version || len(a.Logits) != len(before.Logits) {
		return ErrCanaryInput
	}
	for i, was := range before.Logits {
		for k, is := range a.Logits[i] {
			if off := math.Abs(float64(is - was[k])); !(off <= canaryAbsolute+canaryRelative*math.Abs(float64(was[k]))) {
				return fmt.Errorf("%w: slice %d, logit %d is %g and was %g", ErrCanaryDiffers, i, k, is, was[k])
			}
		}
	}
	return nil
}

// fingerprint tells sets of slices apart.
func fingerprint(cases []Case) string {
	h := sha256.New()
	for _, c := range cases {
		fmt.Fprintln(h, c.Image.Rows, c.Image.Columns, c.Image.PixelSpacing, c.Bleed)
		_ = binary.Write(h, binary.LittleEndian, c.Image.HU) // to a hash
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readAnswers gives those of models, nil where there are none, or only those of
// other models.
func readAnswers(dir string, of infer.Models) (*answers, error) {
	text, err := os.ReadFile(filepath.Join(dir, canaryName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var kept map[string]*answers
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("read the canary's earlier answers: %w", err)
	}
	return kept[key(of)], nil
}

// writeAnswers keeps the answers of models, and those of others that may come back.
func writeAnswers(dir string, of infer.Models, a *answers, others ...infer.Models) error {
	kept := map[string]*answers{}
	for _, other := range others {
		if earlier, err := readAnswers(dir, other); err == nil && earlier != nil {
			kept[key(other)] = earlier
		}
	}
	kept[key(of)] = a
	if err := writeJSON(dir, canaryName, kept); err != nil {
		return fmt.Errorf("keep the canary's answers: %w", err)
	}
	return nil
}

func key(m infer.Models) string {
	text, _ := json.Marshal(m) // strings alone
	return string(text)
}
