package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every key of the schema stands in ichwatch.yaml, and the other way round, each
// under a comment of its own.
func TestReferenceHasEveryKeyWithItsComment(t *testing.T) {
	lines := strings.Split(string(reference), "\n")
	shown := map[string]int{}
	for _, text := range [][]byte{reference, sample(reference)} {
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		collect(doc.Content[0], "", shown)
	}
	var want []string
	for _, key := range allKeys(reflect.TypeFor[Config](), "") {
		want = append(want, key)
		line, ok := shown[key]
		if !ok {
			t.Errorf("%s: not in ichwatch.yaml", key)
			continue
		}
		above := strings.TrimLeft(lines[line-2], "# ")
		if comment := strings.HasPrefix(strings.TrimSpace(lines[line-2]), "#"); !comment || len(above) < 4 {
			t.Errorf("ichwatch.yaml:%d: %s has no comment above it", line, key)
		}
	}
	for key := range shown {
		if !slices.Contains(want, key) {
			t.Errorf("%s: in ichwatch.yaml but not in the schema", key)
		}
	}
}

// collect notes the line of each key where it first stands; entries of a list
// count under the list.
func collect(n *yaml.Node, path string, shown map[string]int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			key := join(path, n.Content[i].Value)
			if _, ok := shown[key]; !ok {
				shown[key] = n.Content[i].Line
			}
			collect(n.Content[i+1], key, shown)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			collect(item, path, shown)
		}
	}
}

// The ranges that the comments state are the ones that validate enforces: what
// "1s to 10m" promises is taken at both ends.
func TestReferenceStatesTheRanges(t *testing.T) {
	section, found := []string{}, 0
	for i, line := range strings.Split(string(reference), "\n") {
		indent := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		key, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, "-") || indent > len(section) {
			continue
		}
		section = append(section[:indent], key)
		least, most, ok := rangeAbove(strings.Split(string(reference), "\n")[:i])
		if !ok {
			continue
		}
		found++
		for _, bound := range []string{least, most} {
			text := ""
			for depth, key := range section {
				text += fmt.Sprintf("%s%s:", strings.Repeat("  ", depth), key)
				if depth < len(section)-1 {
					text += "\n"
				}
			}
			if _, err := Parse("f", []byte(text+" "+bound)); err != nil {
				t.Errorf("the stated bound is refused: %v", err)
			}
		}
	}
	if found < 12 {
		t.Errorf("found only %d stated ranges", found)
	}
}

// rangeAbove reads "LEAST to MOST." at the end of the comment above a key.
func rangeAbove(lines []string) (least, most string, ok bool) {
	last := strings.TrimSpace(lines[len(lines)-1])
	words := strings.Fields(last)
	n := len(words)
	if !strings.HasPrefix(last, "#") || n < 4 || words[n-2] != "to" || !strings.HasSuffix(last, ".") {
		return "", "", false
	}
	least, most = words[n-3], strings.TrimSuffix(words[n-1], ".")
	numeric := strings.ContainsAny(least[:1], "0123456789") && strings.ContainsAny(most[:1], "0123456789")
	return least, most, numeric
}

func TestNearest(t *testing.T) {
	keys := []string{"ae_title", "listen", "max_pdu", "max_object", "artim_timeout"}
	for word, want := range map[string]string{
		"ae_titel": "ae_title", "aetitle": "ae_title", "AE_Title": "ae_title", "listne": "listen",
		"max_pdus": "max_pdu", "colour": "", "x": "", strings.Repeat("a", 1000): "",
	} {
		if got := Nearest(word, keys); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", word, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]string{
		"30s": "30s", "1d12h": "36h", "7d": "7d", "0s": "0s", "1.5h": "1h30m", "250ms": "250ms", "48h": "2d",
		"30": "!", "": "!", "d": "!", "-1s": "!", "1.5d": "!", "1d2d": "!", "99999999d": "!", "292y": "!", "0": "!", "9999999h": "!",
	} {
		d, err := parseDuration(in)
		if got := written(d); err == nil && got != want || (err != nil) != (want == "!") {
			t.Errorf("duration %q: got %s, %v, want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"64KiB": "64KiB", "8 MiB": "8MiB", "0B": "0B", "1024KiB": "1MiB", "1TiB": "1TiB", "1000B": "1000B",
		"64": "!", "64KB": "!", "": "!", "KiB": "!", "-1KiB": "!", "1.5GiB": "!", "9999999TiB": "!",
	} {
		s, err := parseSize(in)
		if got := s.String(); err == nil && got != want || (err != nil) != (want == "!") {
			t.Errorf("size %q: got %s, %v, want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"04:00": "04:00", "23:59": "23:59", "00:00": "00:00", "24:00": "!", "4:00": "!", "04:60": "!", "0400": "!", "04:00:00": "!", "": "!", "240": "!",
	} {
		c, err := parseClock(in)
		if got := c.String(); err == nil && got != want || (err != nil) != (want == "!") {
			t.Errorf("time of day %q: got %s, %v, want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"90%": "90%", "12.5%": "12.5%", "0%": "0%", "100%": "100%", "90": "!", "0.9": "!", "101%": "!", "-1%": "!", "%": "!", "": "!",
	} {
		s, err := parseShare(in)
		if got := s.String(); err == nil && got != want || (err != nil) != (want == "!") {
			t.Errorf("share %q: got %s, %v, want %s", in, got, err, want)
		}
	}
}
