package onnx

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ichwatch/daemon/phantom"
	"ichwatch/infer"
	"ichwatch/infer/graph"
	"ichwatch/infer/manifest"
)

// Every model in models/ loads, says what it is and is not, shows where it looks,
// and tells synthetic studies with a hemorrhage from those without one.
func TestShippedModels(t *testing.T) {
	folders, err := filepath.Glob("../../models/*/" + manifest.FileName)
	if err != nil || len(folders) == 0 {
		t.Fatalf("%d model folders (%v)", len(folders), err)
	}
	images, bleeds := studies(t)
	for _, file := range folders {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m, err := manifest.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			card, err := os.ReadFile(filepath.Join(dir, "MODEL_CARD.md"))
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{m.IntendedUse, string(card)} {
				if !strings.Contains(text, "Not a medical device") || !strings.Contains(strings.ToLower(text), "not for diagnosis") {
					t.Errorf("it does not say what it is not:\n%.300s", text)
				}
			}
			if m.Name != filepath.Base(dir) || !bytes.Contains(card, []byte(m.SHA256())) {
				t.Errorf("the manifest is of %s, and the card names %s: %t", m.Name, m.SHA256(), bytes.Contains(card, []byte(m.SHA256())))
			}
			head, err := graph.FindHead(m.Model(), m.Outputs.Logits, m.Outputs.CAM)
			if err != nil {
				t.Fatalf("it cannot be adapted: %v", err)
			}
			c, err := open(t).NewClassifier(m, Options{Runners: 2, Maps: true})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			normal := slices.Index(m.Classes, infer.Normal)
			var calm, found []float64
			for i, img := range images {
				scores, maps, err := c.Explain(t.Context(), img)
				if err != nil {
					t.Fatal(err)
				}
				for k, logit := range scores.Logits {
					mean := 0.0
					for _, v := range maps.Map(k) {
						mean += float64(v) / float64(maps.Rows*maps.Columns)
					}
					if off := math.Abs(mean + float64(head.Bias[k]) - float64(logit)); !(off < 1e-3) {
						t.Fatalf("slice %d, %v: the map says %v, the logit is %v", i, m.Classes[k], mean+float64(head.Bias[k]), logit)
					}
				}
				any := 1 - float64(scores.Probabilities[normal])
				if bleeds[i] {
					found = append(found, any)
				} else {
					calm = append(calm, any)
				}
			}
			higher := 0.0
			for _, f := range found {
				for _, q := range calm {
					if f > q {
						higher++
					}
				}
			}
			auc := higher / float64(len(found)*len(calm))
			t.Logf("%d synthetic slices with a hemorrhage, %d without: AUC %.3f", len(found), len(calm), auc)
			if !(auc > 0.8) {
				t.Errorf("AUC %.3f", auc)
			}
		})
	}
}

// studies are slices of synthetic heads of every class: those that show at least
// 1 ml of blood, and those of studies without any.
func studies(t *testing.T) (images []*infer.Image, bleeds []bool) {
	t.Helper()
	for n, class := range slices.Repeat(phantom.Classes(), 2) {
		s, err := phantom.New(phantom.Options{Class: class, Seed: uint64(4000 + n), Rows: 256, Columns: 256, Slices: 20})
		if err != nil {
			t.Fatal(err)
		}
		for i := 5; i < 15; i += 2 {
			truth := s.Truth(i)
			if class != phantom.Normal && truth.TotalMM3() < 1000 {
				continue
			}
			images = append(images, &infer.Image{Rows: s.Rows(), Columns: s.Columns(), HU: s.HU(i, nil), PixelSpacing: [2]float64{s.PixelSpacing(), s.PixelSpacing()}})
			bleeds = append(bleeds, class != phantom.Normal)
		}
	}
	return images, bleeds
}
