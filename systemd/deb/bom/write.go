package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// licenceTexts are the texts under which the parts come, one part after another.
func licenceTexts(parts []part) string {
	var b strings.Builder
	b.WriteString("ichwatch is linked with the modules below, each under its own licence. The\nmodels' data, their licences and attribution: /usr/share/ichwatch/models/*/MODEL_CARD.md\n")
	for _, p := range parts {
		if len(p.texts) == 0 {
			continue // a model, which has a card
		}
		head := fmt.Sprintf("%s %s (%s)", p.name, p.version, strings.Join(p.licences, ", "))
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", head, strings.Repeat("=", len(head)), strings.TrimSpace(strings.Join(p.texts, "\n")))
	}
	return b.String()
}

// writeBOM writes CycloneDX 1.6. It holds no time and no serial number: the same source gives the same bytes.
func writeBOM(path, version string, parts []part) error {
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: "ichwatch", Type: cdx.ComponentTypeApplication, Name: "ichwatch", Version: version,
	}}
	var components []cdx.Component
	var refs []string
	for _, p := range parts {
		ref := p.purl
		if ref == "" {
			ref = "model:" + p.name
		}
		c := cdx.Component{BOMRef: ref, Type: p.kind, Name: p.name, Version: p.version, PackageURL: p.purl, Scope: cdx.ScopeRequired}
		if p.optional {
			c.Scope = cdx.ScopeOptional
		}
		sum := p.sha256
		if digest, ok := strings.CutPrefix(p.sum, "h1:"); ok {
			raw, err := base64.StdEncoding.DecodeString(digest)
			if err != nil {
				return fmt.Errorf("the sum of %s: %w", p.name, err)
			}
			sum = hex.EncodeToString(raw)
		}
		if sum != "" {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}}
		}
		if len(p.licences) > 0 {
			var choices cdx.Licenses
			for _, id := range p.licences {
				choices = append(choices, cdx.LicenseChoice{License: &cdx.License{ID: id}})
			}
			c.Licenses = &choices
		}
		components, refs = append(components, c), append(refs, ref)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: "ichwatch", Dependencies: &refs}}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return err
	}
	return f.Close()
}
