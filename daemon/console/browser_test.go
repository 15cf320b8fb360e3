package console_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"ichwatch/alerts"
	"ichwatch/daemon/console"
	"ichwatch/daemon/console/consoletest"
	"ichwatch/daemon/phantom"
	"ichwatch/daemon/spool"
)

// A night on call, in a real browser: a study arrives while the page is open,
// appears without a reload, is opened, scrolled in every way, judged; two people
// meet; and the connection is lost, loudly, and comes back.
func TestOnCall(t *testing.T) {
	s := newSite(t, nil)
	normal, bleed := newPhantom(t, phantom.Normal, 1), newPhantom(t, phantom.Epidural, 2)
	s.arrive(normal, all(normal)...)
	s.decide(normal, alerts.Negative, nil)

	b := consoletest.Open(t)
	b.On(consoletest.Desktop, "light")
	b.LogIn(s.base, "anna", password)
	b.Until("the stream is open", `document.querySelector("#live").textContent === "live" && !document.querySelector("#live").hidden`)
	b.Until("the earlier study is there", `document.querySelector('[data-key="over"] .line .outcome')?.textContent === "NEGATIVE"`)
	b.Do("mark the page", chromedp.Evaluate(`window.samePage = true`, nil))
	b.Shot("list-calm-desktop-light")

	s.arrive(bleed, all(bleed)[:9]...)
	b.Until("the study is on its way", `document.querySelectorAll('[data-key="arriving"] .line').length === 1`)
	s.arrive(bleed, all(bleed)[9:]...)
	id := s.suspect(bleed)
	s.delivered()
	b.Until("the alert is there without a reload", `window.samePage && document.querySelector(".alert.open h3")?.textContent === "Suspected epidural hemorrhage"`)
	b.Until("the title tells", `document.title.startsWith("(1)")`)
	b.Until("a screen reader is told", `document.querySelector("#loud").textContent.includes("New alert: suspected epidural")`)
	b.Until("its key slice is beside it", `document.querySelector(".thumb img")?.naturalWidth > 0`)
	b.Shot("list-alert-desktop-light")

	// By the keyboard alone to the study.
	b.Do("open", chromedp.Focus(`.alert.open h3 a`), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#panel"))
	b.Until("the slice is drawn", drawn)
	b.Until("it is a head", `(() => { const c = document.querySelector("#canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
		let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i] > 40) n++; return n > 0.1 * c.width * c.height; })()`)
	slices := len(all(bleed))
	at := func() (n int) {
		b.Value(`Number(document.querySelector("#scroll").value)`, &n)
		return n
	}
	key := at()
	b.Shot("study-desktop-light")
	var x, y float64
	b.Value(`document.querySelector("#stage").getBoundingClientRect().x + 200`, &x)
	b.Value(`document.querySelector("#stage").getBoundingClientRect().y + 200`, &y)
	step := func(what string, want int, actions ...chromedp.Action) {
		t.Helper()
		b.Do(what, actions...)
		b.Until(what, fmt.Sprintf(`Number(document.querySelector("#scroll").value) === %d && document.querySelector("#c-slice").textContent.startsWith("%d / %d")`, want, want, slices))
		b.Until(what+" is drawn", drawn)
	}
	step("up", key+1, chromedp.KeyEvent(kb.ArrowUp))
	step("home", 1, chromedp.KeyEvent(kb.Home))
	step("end", slices, chromedp.KeyEvent(kb.End))
	step("wheel", slices-1, chromedp.ActionFunc(func(ctx context.Context) error {
		return input.DispatchMouseEvent(input.MouseWheel, x, y).WithDeltaX(0).WithDeltaY(-40).Do(ctx)
	}))
	step("key slice", key, chromedp.KeyEvent("k"))
	b.Do("bone", chromedp.KeyEvent("3"))
	b.Until("bone is pressed", `document.querySelector('[data-window="bone"]').getAttribute("aria-pressed") === "true"`)
	b.Shot("study-bone-desktop-light")
	b.Do("subdural and heat", chromedp.KeyEvent("2"), chromedp.KeyEvent("h"))
	b.Until("something warm is on the canvas", `(() => { const c = document.querySelector("#canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
		for (let i = 0; i < d.length; i += 4) if (d[i] > d[i + 2] + 60) return true; return false; })()`)
	b.Shot("study-heat-desktop-light")
	b.Until("the plot has a threshold and every slice", fmt.Sprintf(`document.querySelector("#plot .threshold") && document.querySelectorAll("#plot circle").length === %d`, slices))

	// Ben is faster; Anna is told so, and has her say afterwards.
	ben := s.as("ben")
	if status, body := ben.post("/alert/"+id+"/acknowledge", nil); status != 200 {
		t.Fatalf("ben: %d %s", status, body)
	}
	b.Until("she sees that ben has it", `document.querySelector("#panel .facts").textContent.includes("ben has it")`)
	if status, body := ben.post("/alert/"+id+"/verdict", map[string][]string{"verdict": {"false-alarm"}, "seen": {"0"}}); status != 200 {
		t.Fatalf("ben: %d %s", status, body)
	}
	b.Until("she sees what ben said", `document.querySelector('#panel [data-act="false-alarm"]').getAttribute("aria-pressed") === "true"`)
	b.Click(`#panel [data-act="confirmed"]`)
	b.Until("it is recorded", `document.querySelector("#said").textContent.includes("Confirmed, recorded")`)
	b.Until("it stands", `document.querySelector('#panel [data-act="confirmed"]').getAttribute("aria-pressed") === "true"`)
	b.Shot("study-judged-desktop-light")
	readings, err := s.Spool.Readings(t.Context(), bleed.StudyUID())
	if err != nil || len(readings) != 2 || readings[1].By != "anna" || readings[1].Verdict != alerts.Confirmed {
		t.Errorf("recorded: %+v, %v", readings, err)
	}

	// The connection is lost.
	b.Do("back to the list", chromedp.Navigate(s.base+"/"))
	b.Until("live", `document.querySelector("#live").textContent === "live"`)
	s.door.cut(true)
	b.Until("it says so, loudly", `!document.querySelector("#lost").hidden && document.querySelector("#lost").textContent.includes("Connection lost")`)
	b.Shot("lost-desktop-light")
	s.door.cut(false)
	b.Until("it comes back by itself", `document.querySelector("#lost").hidden && document.querySelector("#live").textContent === "live"`)
}

// drawn is true where the slice that the page names is on the canvas.
const drawn = `document.querySelector("#wait").hidden && document.querySelector("#canvas").dataset.slice &&
	document.querySelector("#stage").dataset.at === document.querySelector("#canvas").dataset.slice`

// On a phone at night: touch scrolls, one tap answers.
func TestOnAPhone(t *testing.T) {
	s := newSite(t, nil)
	bleed, other := newPhantom(t, phantom.Subdural, 3), newPhantom(t, phantom.Intraparenchymal, 4)
	s.arrive(bleed, all(bleed)...)
	s.suspect(bleed)
	s.arrive(other, all(other)...)
	second := s.suspect(other)
	s.delivered()
	if err := s.Spool.Escalate(t.Context(), second, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.delivered()

	b := consoletest.Open(t)
	b.On(consoletest.Phone, "dark")
	b.Do("login", chromedp.Navigate(s.base+"/"), chromedp.WaitVisible("#name"))
	b.Shot("login-phone-dark")
	b.LogIn(s.base, "anna", password)
	b.Until("two alerts, the escalated one first", `document.querySelectorAll(".alert.open").length === 2 && document.querySelector(".alert .chip.level")?.closest(".alert") === document.querySelector(".alert")`)
	b.Until("pictures", `[...document.querySelectorAll(".thumb img")].filter((i) => i.naturalWidth > 0).length === 2`)
	b.Until("nothing is wider than the screen", `document.documentElement.scrollWidth <= 390`)
	b.Shot("list-phone-dark")
	b.Until("targets are large enough", `[...document.querySelectorAll(".acts button, .acts .button, .bar a, .tool")].filter((e) => e.offsetParent && e.getBoundingClientRect().height < 40).length === 0 || [...document.querySelectorAll(".acts button, .tool")].every((e) => e.getBoundingClientRect().height >= 44)`)

	b.Click(`.alert [data-act="acknowledge"]`)
	b.Until("she has it", `document.querySelector("#said").textContent.includes("You have it") && document.querySelectorAll(".alert.open").length === 1`)
	b.Until("it moved to those in hand", `document.querySelector('[data-key="inhand"] .has')?.textContent.includes("anna")`)
	b.Shot("list-acknowledged-phone-dark")

	b.Click(`.alert.open [data-act="open"]`)
	b.Until("the study is open", `document.querySelector("#panel")`)
	b.Until("drawn", drawn)
	b.Until("nothing is wider than the screen", `document.documentElement.scrollWidth <= 390`)
	b.Shot("study-phone-dark")
	var before, after int
	b.Value(`Number(document.querySelector("#scroll").value)`, &before)
	b.Do("drag up", touch(180, 320, 180, 240))
	b.Until("it scrolled", fmt.Sprintf(`Number(document.querySelector("#scroll").value) > %d`, before))
	b.Value(`Number(document.querySelector("#scroll").value)`, &after)
	b.Click(`#panel [data-act="unsure"]`)
	b.Until("recorded", `document.querySelector("#said").textContent.includes("Unsure, recorded")`)
	if after <= before {
		t.Errorf("from slice %d to %d", before, after)
	}
}

// touch drags a finger.
func touch(x0, y0, x1, y1 float64) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		point := func(x, y float64) []*input.TouchPoint { return []*input.TouchPoint{{X: x, Y: y}} }
		if err := input.DispatchTouchEvent(input.TouchStart, point(x0, y0)).Do(ctx); err != nil {
			return err
		}
		for i := 1; i <= 8; i++ {
			f := float64(i) / 8
			if err := input.DispatchTouchEvent(input.TouchMove, point(x0+f*(x1-x0), y0+f*(y1-y0))).Do(ctx); err != nil {
				return err
			}
		}
		return input.DispatchTouchEvent(input.TouchEnd, []*input.TouchPoint{}).Do(ctx)
	})
}

// The pages that nobody is in a hurry for, and every page on other screens: drawn
// without a fault, nothing wider than the screen, everything named.
func TestOnEveryScreen(t *testing.T) {
	s := newSite(t, func(s *console.Server) {
		s.CheckFile = func(context.Context) console.Checked {
			return console.Checked{File: "/etc/ichwatch/ichwatch.yaml", Changed: true, Problems: []string{"ichwatch.yaml:4:11: dicom.listen: \":99999\" has no valid port"}, Warnings: []string{"site: is the one of the reference"}}
		}
		s.Identify = func(_ context.Context, r spool.StudyRecord) (console.Identity, error) {
			return console.Identity{StudyInstanceUID: string(r.StudyInstanceUID), PatientName: "Example, Erika", PatientID: "12345", Number: "A-1"}, nil
		}
	})
	classes := []phantom.Class{phantom.Normal, phantom.Subdural, phantom.Intraparenchymal, phantom.Subarachnoid, phantom.Epidural, phantom.Intraventricular}
	var ids []string
	var studies []*phantom.Study
	for i, class := range classes {
		p := newPhantom(t, class, uint64(20+i))
		studies = append(studies, p)
		s.arrive(p, all(p)...)
		if class == phantom.Normal {
			s.decide(p, alerts.Negative, nil)
			continue
		}
		ids = append(ids, s.suspect(p))
	}
	failed, arriving, odd := newPhantom(t, phantom.Normal, 40), newPhantom(t, phantom.Normal, 41), newPhantom(t, phantom.Normal, 42)
	s.arrive(failed, 0, 1)
	s.decide(failed, alerts.Failed, nil)
	s.arrive(arriving, 0, 1, 2)
	s.store(odd.InstanceUID(0), dataSetOf(t, odd))
	s.decide(odd, alerts.NotAnalysed, nil)
	s.delivered()
	if err := s.Spool.Escalate(t.Context(), ids[0], 2, time.Now()); err != nil {
		t.Fatal(err)
	}
	ben := s.as("ben")
	ben.post("/alert/"+ids[1]+"/acknowledge", nil)
	ben.post("/alert/"+ids[2]+"/verdict", map[string][]string{"verdict": {"false-alarm"}, "seen": {"0"}})
	s.decide(studies[5], alerts.Negative, nil) // withdrawn
	study := "/study/" + s.Spool.Pseudonym(studies[1].StudyUID())
	nothing := "/study/" + s.Spool.Pseudonym(odd.StudyUID())

	b := consoletest.Open(t)
	b.On(consoletest.Desktop, "light")
	b.LogIn(s.base, "root", password)
	for _, screen := range []consoletest.Screen{consoletest.Desktop, consoletest.Phone, consoletest.Tablet, consoletest.Wall} {
		for _, theme := range []string{"light", "dark"} {
			b.On(screen, theme)
			for name, path := range map[string]string{"list": "/", "study": study, "nothing": nothing, "device": "/device", "trail": "/trail"} {
				what := "all-" + name + "-" + screen.Name + "-" + theme
				b.Do(what, chromedp.Navigate(s.base+path), chromedp.WaitVisible("#main"))
				switch name {
				case "list":
					b.Until("pictures", `[...document.querySelectorAll(".thumb")].every((p) => p.querySelector("img")?.naturalWidth > 0)`)
				case "study":
					b.Until("drawn", drawn)
					b.Until("the plot", `document.querySelector("#plot .threshold")`)
				}
				var wide []string
				b.Value(fmt.Sprintf(`[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > %d + 1 && !e.closest(".scrollx, .sr, .skip")).map((e) => e.outerHTML.slice(0, 90))`, screen.Width), &wide)
				if len(wide) > 0 {
					t.Errorf("%s: wider than the screen: %q", what, wide)
				}
				b.Until(what+": the disclaimer is in sight", `[...document.querySelectorAll(".disclaimer")].some((e) => { const r = e.getBoundingClientRect(); return r.height > 0 && r.top >= 0 && r.bottom <= innerHeight && e.textContent.includes("not for diagnosis"); })`)
				b.Until(what+": everything has a name", `[...document.querySelectorAll("button, a[href], input:not([type=hidden]), select, summary, [role=img]")].every((e) =>
					e.closest("[aria-hidden=true]") || e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length > 0 || e.title)`)
				b.Until(what+": one main, one h1, ids once", `document.querySelectorAll("main").length === 1 && document.querySelectorAll("h1").length === 1 && document.documentElement.lang === "en"
					&& new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size === document.querySelectorAll("[id]").length`)
				b.Shot(what)
			}
		}
	}
	b.On(consoletest.Desktop, "light")
	b.Do("check the configuration", chromedp.Navigate(s.base+"/device"))
	b.Click(`form[action="/device/check"] button`)
	b.Until("what is wrong is said", `document.body.innerText.includes("has no valid port") && document.body.innerText.includes("has changed since")`)
	b.Do("to the end", chromedp.Evaluate(`scrollTo(0, document.body.scrollHeight)`, nil))
	b.Shot("device-checked")

	wall := consoletest.Open(t)
	wall.On(consoletest.Wall, "dark")
	wall.LogIn(s.base, "wall", password)
	wall.Until("the list without ways to act", `document.querySelectorAll(".alert.open").length === 2 && [...document.querySelectorAll(".acts, .look")].every((e) => e.offsetParent === null)`)
	wall.Shot("wall-display")
}
