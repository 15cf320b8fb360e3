package console

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// pairs are the colours that are seen together: what is read on what, and the
// least ratio that WCAG 2.2 asks for it (1.4.3: 4.5 for text; 1.4.11: 3 for the
// edges of what can be used).
var pairs = []struct {
	fore, back string
	least      float64
}{
	{"text", "ground", 4.5},
	{"text", "surface", 4.5},
	{"text", "raised", 4.5},
	{"text", "urgent-ground", 4.5},
	{"muted", "ground", 4.5},
	{"muted", "surface", 4.5},
	{"muted", "raised", 4.5},
	{"muted", "urgent-ground", 4.5},
	{"link", "surface", 4.5},
	{"link", "ground", 4.5},
	{"link", "urgent-ground", 4.5},
	{"urgent", "surface", 4.5},
	{"urgent", "ground", 4.5},
	{"urgent", "urgent-ground", 4.5},
	{"on-urgent", "urgent-fill", 4.5},
	{"warn", "surface", 4.5},
	{"warn", "warn-ground", 4.5},
	{"warn", "ground", 4.5},
	{"good", "surface", 4.5},
	{"good", "good-ground", 4.5},
	{"good", "ground", 4.5},
	{"on-accent", "accent-fill", 4.5},
	{"on-strip", "strip", 4.5},
	{"edge", "surface", 3},
	{"edge", "ground", 3},
	{"edge", "raised", 3},
	{"edge", "urgent-ground", 3},
	{"urgent-fill", "urgent-ground", 3},
	{"accent-fill", "surface", 3},
}

func TestContrast(t *testing.T) {
	css, err := assets.ReadFile("assets/base.css")
	if err != nil {
		t.Fatal(err)
	}
	themes := regexp.MustCompile(`(?s):root(\[data-theme="dark"\])? \{(.*?)\n\}`).FindAllStringSubmatch(string(css), -1)
	if len(themes) != 2 {
		t.Fatalf("found %d themes", len(themes))
	}
	for _, theme := range themes {
		name := "light"
		if theme[1] != "" {
			name = "dark"
		}
		colours := map[string]string{}
		for _, c := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(theme[2], -1) {
			colours[c[1]] = c[2]
		}
		for _, p := range pairs {
			if colours[p.fore] == "" || colours[p.back] == "" {
				t.Errorf("%s: no colour %s or %s", name, p.fore, p.back)
				continue
			}
			if got := ratio(colours[p.fore], colours[p.back]); got < p.least {
				t.Errorf("%s: %s on %s has %.2f, at least %.1f is asked for", name, p.fore, p.back, got, p.least)
			}
		}
	}
}

// Colours of their own, outside the themes, have only what lies on the black stage.
func TestColoursStandInOnePlace(t *testing.T) {
	for _, file := range []string{"base.css", "list.css", "study.css"} {
		css, err := assets.ReadFile("assets/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(css), "\n") {
			if strings.Contains(line, "--") && strings.HasPrefix(strings.TrimSpace(line), "--") {
				continue
			}
			for _, c := range regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b`).FindAllString(line, -1) {
				if c != "#000" && c != "#d7e3ee" && c != "#ffb4ae" && !strings.HasPrefix(c, "#list") {
					t.Errorf("%s:%d: %s", file, i+1, c)
				}
			}
		}
	}
	for _, c := range []string{"#d7e3ee", "#ffb4ae"} {
		if got := ratio(c, "#000000"); got < 4.5 {
			t.Errorf("%s on the stage has %.2f", c, got)
		}
	}
}

// ratio is that of WCAG 2.2.
func ratio(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c string) float64 {
	channel := func(i int) float64 {
		n, err := strconv.ParseUint(c[i:i+2], 16, 8)
		if err != nil {
			panic(fmt.Sprintf("%s is no colour", c))
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(1) + 0.7152*channel(3) + 0.0722*channel(5)
}

// No markup carries a style or a script of its own, which the policy would keep
// out anyway, and nothing is fetched from elsewhere.
func TestNothingInlineAndNothingFromElsewhere(t *testing.T) {
	inline := regexp.MustCompile(`(?i)\sstyle=|\son[a-z]+=|<style|<script>|javascript:`)
	elsewhere := regexp.MustCompile(`(?i)(src|href|url|import|fetch)[^\n]{0,4}["'(]\s*(https?:)?//`)
	for _, tree := range []struct {
		dir  string
		read func(string) ([]byte, error)
	}{{"templates", templates.ReadFile}, {"assets", assets.ReadFile}} {
		names, err := templates.ReadDir("templates")
		if tree.dir == "assets" {
			names, err = assets.ReadDir("assets")
		}
		if err != nil || len(names) < 4 {
			t.Fatalf("%d files, %v", len(names), err)
		}
		for _, n := range names {
			text, err := tree.read(tree.dir + "/" + n.Name())
			if err != nil {
				t.Fatal(err)
			}
			if tree.dir == "templates" && inline.Match(text) {
				t.Errorf("%s: %s", n.Name(), inline.Find(text))
			}
			if elsewhere.Match(text) {
				t.Errorf("%s: %s", n.Name(), elsewhere.Find(text))
			}
			if lines := strings.Count(string(text), "\n"); lines > 400 {
				t.Errorf("%s has %d lines", n.Name(), lines)
			}
		}
	}
}
