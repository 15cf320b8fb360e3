package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ichwatch/configs"
	"ichwatch/daemon/app"
	"ichwatch/dimse"
	"ichwatch/dimse/dicom"
	"ichwatch/dimse/dimsetest"
	"ichwatch/dimse/pdu"
)

// statements are sites whose statements differ.
var statements = map[string]string{
	"defaults": "",
	"a site of its own": `
site: north
dicom:
  ae_title: WATCH|1
  tls:
    enabled: true
    certificate_file: /etc/ichwatch/tls/own.pem
    key_file: /etc/ichwatch/tls/own.key
    client_ca_file: /etc/ichwatch/tls/site.pem
    plain_listen: ":11113"
  users_file: /etc/ichwatch/secrets/users
  peers:
    - {name: ct1, ae_title: CT1, commitment: {address: "ct1.example.org:2762", tls: {enabled: true}}}
    - {name: ct2, ae_title: CT2, addresses: [192.0.2.0/24], certificate_names: [ct2.example.org], user_identity: require, commitment: {mode: refuse}}
  commitment: {same_association: false, max_references: 77}
  max_pdu: 64KiB
  private_sop_classes: [1.2.840.113619.4.30]
  transfer_syntaxes: [JPEGLSLossless, 1.2.840.113619.5.2, ImplicitVRLittleEndian]
destinations:
  - name: pacs
    address: "pacs.example.org:104"
    called_ae_title: PACS
    tls: {enabled: true}
    username: ichwatch
    commitment: {mode: require, called_ae_title: STGCMT}
`,
	"everything":    "dicom: {unknown_sop_classes: accept, accept_any_called_ae: true, accept_blank_calling_ae: true}",
	"no commitment": "dicom: {commitment: {enabled: false}}",
}

func statement(t *testing.T, file string) (*configs.Config, string) {
	t.Helper()
	cfg, err := configs.Parse("ichwatch.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := installation(cfg).Markdown(&b); err != nil {
		t.Fatal(err)
	}
	return cfg, b.String()
}

// uidsOf lists the UIDs in the table after the heading or text, in order.
func uidsOf(t *testing.T, text, after string) []dicom.UID {
	t.Helper()
	_, rest, ok := strings.Cut(text, after)
	if !ok {
		t.Fatalf("the statement lacks %q", after)
	}
	var uids []dicom.UID
	inTable := false
	for line := range strings.Lines(rest) {
		if row := strings.HasPrefix(line, "|"); !row && inTable {
			break
		} else if row {
			inTable = true
			for _, uid := range regexp.MustCompile("`([0-9.]+)`").FindAllStringSubmatch(line, -1) {
				uids = append(uids, dicom.UID(uid[1]))
			}
		}
	}
	return uids
}

type nothing struct{}

func (nothing) Echo(context.Context, *dimse.Association) dimse.Status { return dimse.StatusSuccess }

func (nothing) Store(context.Context, *dimse.Association, dimse.CStoreRQ, io.Reader) dimse.Result {
	return dimse.Result{}
}

func (nothing) Action(context.Context, *dimse.Association, dimse.NActionRQ, io.Reader) dimse.Result {
	return dimse.Result{}
}

func (nothing) NextEventReport(context.Context, *dimse.Association) *dimse.EventReport { return nil }

// What the statement's tables say is what an association with the acceptor of that configuration negotiates: no context
// more, none less, and the same choice among several.
func TestStatementIsWhatIsNegotiated(t *testing.T) {
	for name, file := range statements {
		t.Run(name, func(t *testing.T) {
			cfg, text := statement(t, file)
			classes := uidsOf(t, text, " SOP Classes\n\nAs provider:")
			syntaxes := uidsOf(t, text, "in each of these transfer syntaxes:")
			if len(classes) < 170 || len(syntaxes) < 50 {
				t.Fatalf("%d SOP classes, %d transfer syntaxes", len(classes), len(syntaxes))
			}
			server := app.Acceptor(cfg)
			s := dimsetest.NewServer(t, nothing{}, func(s *dimse.Server) {
				*s = dimse.Server{
					AETitle: server.AETitle, AcceptAnyCalledAETitle: server.AcceptAnyCalledAETitle, Peers: server.Peers,
					PrivateStorage: server.PrivateStorage, UnknownStorage: server.UnknownStorage, TransferSyntaxes: server.TransferSyntaxes,
					MaxPDU: server.MaxPDU, Handler: nothing{},
				}
				if cfg.DICOM.Commitment.Enabled {
					s.Actions = nothing{}
				}
			})
			d := dimse.Dialer{CallingAETitle: "CT1", CalledAETitle: server.AETitle}
			negotiate := func(contexts []dimse.ProposedContext) (all []dimse.PresentationContext) {
				for part := range slices.Chunk(contexts, pdu.MaxPresentationContexts) {
					d.Contexts = part
					a, err := d.Dial(t.Context(), s.Addr)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, a.Contexts()...)
					if err := a.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
				return all
			}

			// Each listed class in a listed syntax, each listed syntax for one class.
			var contexts []dimse.ProposedContext
			for i, class := range classes {
				contexts = append(contexts, dimse.ProposedContext{AbstractSyntax: class, TransferSyntaxes: []dicom.UID{syntaxes[i%len(syntaxes)]}})
			}
			for _, syntax := range syntaxes {
				contexts = append(contexts, dimse.ProposedContext{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{syntax}})
			}
			for _, pc := range negotiate(contexts) {
				if pc.Result != pdu.Acceptance {
					t.Errorf("%s in %s is listed, and answered with %v", pc.AbstractSyntax.Name(), pc.TransferSyntax.Name(), pc.Result)
				}
			}

			// What is not listed.
			contexts = nil
			for _, class := range []dicom.UID{
				"1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2", "1.2.840.113619.4.30", "1.2.840.10008.5.1.4.1.1.999",
			} {
				contexts = append(contexts, dimse.ProposedContext{AbstractSyntax: class, TransferSyntaxes: []dicom.UID{dicom.ExplicitVRLittleEndian}})
			}
			for _, syntax := range []dicom.UID{"1.2.840.113619.5.2", "1.2.840.10008.1.2.7.1"} {
				contexts = append(contexts, dimse.ProposedContext{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []dicom.UID{syntax}})
			}
			unknown := strings.Contains(text, "may be a storage SOP class is accepted as one")
			for i, pc := range negotiate(contexts) {
				listed := slices.Contains(classes, pc.AbstractSyntax) || unknown && pc.AbstractSyntax.MayBeStorage()
				listed = listed && slices.Contains(syntaxes, contexts[i].TransferSyntaxes[0])
				if accepted := pc.Result == pdu.Acceptance; accepted != listed {
					t.Errorf("%s in %s: listed %t, %v", pc.AbstractSyntax.Name(), contexts[i].TransferSyntaxes[0].Name(), listed, pc.Result)
				}
			}

			// The choice among several.
			backwards := slices.Clone(syntaxes)
			slices.Reverse(backwards)
			chosen := negotiate([]dimse.ProposedContext{{AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: backwards}})[0].TransferSyntax
			want := syntaxes[0]
			if strings.Contains(text, "first that the peer names") {
				want = backwards[0]
			}
			if chosen != want {
				t.Errorf("of all, %s is chosen and not %s", chosen.Name(), want.Name())
			}
		})
	}
}

// The policies on the association are said as they are answered.
func TestStatementNamesTheSite(t *testing.T) {
	_, text := statement(t, statements["a site of its own"])
	for _, want := range []string{
		"north/ct1", "not a medical device", "not for diagnosis",
		fmt.Sprintf("| Longest PDU received | %d bytes |", 64<<10),
		"| Implementation class UID | `" + string(dicom.ImplementationClassUID) + "` |",
		"| Implementation version name | `" + dicom.ImplementationVersionName + "` |",
		"1 invoked, 1 performed",
		"| private |  | `1.2.840.113619.5.2` |",
		"`WATCH\\|1`", "| pacs | `PACS` | `pacs.example.org:104` | remote |",
		"1, 1, 7", "A700H to A7FFH", "| any other | parked",
		"| ct1 | `CT1` | `WATCH\\|1` | anywhere | any | ignored | all |",
		"| ct2 | `CT2` | `WATCH\\|1` | `192.0.2.0/24` | `ct2.example.org` | required | all, without requests for storage commitment |",
		"to report storage commitments alone | `STGCMT` | `WATCH\\|1` | `pacs.example.org`, in TLS | any | ignored | Verification SOP Class, Storage Commitment Push Model SOP Class; to report alone |",
		"| STORE-SCP, every interface, port 11112 | yes | asks for one of the site's authority |", "| STORE-SCP, every interface, port 11113 | no |",
		"| FORWARD-SCU to pacs | yes |", "| Reports to ct1 | yes |", "`TLS_AES_128_GCM_SHA256`", "| pacs | username |", "item 59H",
		"| Storage Commitment | Storage Commitment Push Model SOP Class | yes | yes |",
		"more than 77 references", "A report never goes over the association of its request.",
		"| ct1 | `CT1` | `ct1.example.org:2762` | `WATCH\\|1` | yes |", "| pacs | `STGCMT` | `pacs.example.org:104` | 10 s | 10 s | 3600 s | 10 s to 3600 s |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the statement lacks %q", want)
		}
	}
	// The outline of PS3.2.
	at := 0
	for _, heading := range []string{
		"## 1 Conformance Statement Overview", "## 2 Table of Contents", "## 3 Introduction", "## 4 Networking", "### 4.1 Implementation Model",
		"### 4.2 AE Specifications", "#### 4.2.1 STORE-SCP", "##### 4.2.1.4 Association Acceptance Policy", "#### 4.2.2 FORWARD-SCU", "### 4.3 Network Interfaces", "### 4.4 Configuration",
		"## 5 Media Interchange", "## 6 Support of Character Sets", "## 7 Security", "## 8 Annexes",
	} {
		next := strings.Index(text[at:], "\n"+heading+"\n")
		if next < 0 {
			t.Fatalf("%q is not where it belongs", heading)
		}
		at += next
	}
	for site, want := range map[string][]string{
		"defaults":      {"| Storage Commitment | Storage Commitment Push Model SOP Class | no | yes |", "Any calling AE title from any address", "A blank calling AE title is rejected", "| STORE-SCP, every interface, port 11112 | no |", "while that is open", "the requestor has been silent for a second", "| the end of the program, after its grace | service-user | 0, 0 |"},
		"everything":    {"A blank calling AE title is accepted"},
		"no commitment": {"| Storage Commitment | Storage Commitment Push Model SOP Class | no | no |", "Not provided at this site"},
	} {
		_, text := statement(t, statements[site])
		for _, want := range want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the statement lacks %q", site, want)
			}
		}
	}
}

// The page says what the Markdown says, is well-formed, and needs nothing beside it.
func TestStatementPage(t *testing.T) {
	cfg, text := statement(t, strings.ReplaceAll(statements["a site of its own"], "north", "n_th"))
	cfg.Site = `<script>"&`
	var b strings.Builder
	if err := installation(cfg).HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
	var words strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			for _, a := range token.Attr {
				if a.Name.Local == "src" || a.Name.Local == "href" && !strings.HasPrefix(a.Value, "#") {
					t.Errorf("the page reaches out: %s", a.Value)
				}
			}
			if token.Name.Local == "script" {
				t.Error("a script on the page")
			}
		case xml.CharData:
			words.Write(token)
		}
	}
	for line := range strings.Lines(text) {
		for part := range strings.SplitSeq(strings.TrimLeft(strings.ReplaceAll(line, `\|`, "\x00"), "#- |"), "|") {
			part = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(part), "`", ""), "\x00", "|")
			if part != "" && !strings.Contains(part, "n_th") && strings.Trim(part, "-") != "" && !strings.Contains(words.String(), part) {
				t.Errorf("the page lacks %q", part)
			}
		}
	}
}
