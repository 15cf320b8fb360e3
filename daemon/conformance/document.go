package conformance

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"strings"
)

// document is headings with paragraphs, lists and tables under them, of which
// both forms of the statement are made. Text between backticks is code.
type document struct {
	title  string
	notes  []string // under the title
	blocks []block
	number [5]int // of the last heading at each level
}

type block interface {
	markdown(b *strings.Builder)
	html(b *strings.Builder)
}

type (
	heading struct {
		level        int // from 1
		number, text string
	}
	paragraph string
	list      []string
	table     struct {
		head []string
		rows [][]string
	}
)

// h begins a section and numbers it.
func (d *document) h(level int, text string) {
	d.number[level-1]++
	clear(d.number[level:])
	parts := make([]string, level)
	for i := range parts {
		parts[i] = fmt.Sprint(d.number[i])
	}
	d.blocks = append(d.blocks, heading{level, strings.Join(parts, "."), text})
}

func (d *document) p(format string, args ...any) {
	d.blocks = append(d.blocks, paragraph(fmt.Sprintf(format, args...)))
}

func (d *document) list(items ...string) { d.blocks = append(d.blocks, list(items)) }

func (d *document) table(head []string, rows [][]string) {
	d.blocks = append(d.blocks, table{head, rows})
}

func (d *document) headings() []heading {
	var all []heading
	for _, b := range d.blocks {
		if h, ok := b.(heading); ok {
			all = append(all, h)
		}
	}
	return all
}

// contents stands for the table of contents where the outline has it.
type contents struct{ of *document }

func (c contents) markdown(b *strings.Builder) {
	for _, h := range c.of.headings() {
		fmt.Fprintf(b, "%s- %s %s\n", strings.Repeat("  ", h.level-1), h.number, h.text)
	}
	b.WriteString("\n")
}

func (c contents) html(b *strings.Builder) {
	b.WriteString("<ul class=\"contents\">\n")
	for _, h := range c.of.headings() {
		fmt.Fprintf(b, "<li class=\"l%d\"><a href=\"#s%s\">%s %s</a></li>\n", h.level, h.number, h.number, html.EscapeString(h.text))
	}
	b.WriteString("</ul>\n")
}

func (h heading) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s %s\n\n", strings.Repeat("#", h.level+1), h.number, h.text)
}

func (h heading) html(b *strings.Builder) {
	fmt.Fprintf(b, "<h%d id=\"s%s\">%s %s</h%d>\n", h.level+1, h.number, h.number, html.EscapeString(h.text), h.level+1)
}

func (p paragraph) markdown(b *strings.Builder) { fmt.Fprintf(b, "%s\n\n", string(p)) }

func (p paragraph) html(b *strings.Builder) { fmt.Fprintf(b, "<p>%s</p>\n", inline(string(p))) }

func (l list) markdown(b *strings.Builder) {
	for _, item := range l {
		fmt.Fprintf(b, "- %s\n", item)
	}
	b.WriteString("\n")
}

func (l list) html(b *strings.Builder) {
	b.WriteString("<ul>\n")
	for _, item := range l {
		fmt.Fprintf(b, "<li>%s</li>\n", inline(item))
	}
	b.WriteString("</ul>\n")
}

func (t table) markdown(b *strings.Builder) {
	row := func(cells []string) {
		b.WriteString("|")
		for _, c := range cells {
			fmt.Fprintf(b, " %s |", strings.ReplaceAll(c, "|", `\|`))
		}
		b.WriteString("\n")
	}
	row(t.head)
	b.WriteString(strings.Repeat("|---", len(t.head)) + "|\n")
	for _, cells := range t.rows {
		row(cells)
	}
	b.WriteString("\n")
}

func (t table) html(b *strings.Builder) {
	row := func(tag string, cells []string) {
		b.WriteString("<tr>")
		for _, c := range cells {
			fmt.Fprintf(b, "<%s>%s</%s>", tag, inline(c), tag)
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("<table>\n<thead>")
	row("th", t.head)
	b.WriteString("</thead>\n<tbody>\n")
	for _, cells := range t.rows {
		row("td", cells)
	}
	b.WriteString("</tbody>\n</table>\n")
}

// inline escapes text for HTML and sets code.
func inline(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, "`") {
		if i%2 == 1 {
			b.WriteString("<code>" + html.EscapeString(part) + "</code>")
		} else {
			b.WriteString(html.EscapeString(part))
		}
	}
	return b.String()
}

func (d *document) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", d.title)
	for _, note := range d.notes {
		paragraph(note).markdown(&b)
	}
	for _, block := range d.blocks {
		block.markdown(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

//go:embed page.css
var style string

func (d *document) writeHTML(w io.Writer) error {
	var b strings.Builder
	title := html.EscapeString(d.title)
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"+
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>%s</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>%s</h1>\n",
		title, style, title)
	for _, note := range d.notes {
		paragraph(note).html(&b)
	}
	for _, block := range d.blocks {
		block.html(&b)
	}
	b.WriteString("</main>\n</body>\n</html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
