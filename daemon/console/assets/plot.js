// The scores of every slice along the stack, one class in front, its threshold dashed.

const space = "http://www.w3.org/2000/svg";
const box = { width: 600, height: 150, left: 30, right: 12, top: 10, bottom: 22 }; // the width follows the page

function make(name, attributes, text) {
  const e = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (text !== undefined) e.textContent = text;
  return e;
}

const named = (name) => name[0].toUpperCase() + name.slice(1);

export class Plot {
  // go(index) is called when a person points at a slice, choose(name) when another
  // class is in front.
  constructor(place, legend, go, choose) {
    Object.assign(this, { place, legend, choose, chosen: null });
    let down = false;
    const at = (e) => {
      const r = this.svg.getBoundingClientRect(), n = this.series.slices.length;
      const x = ((e.clientX - r.left) / r.width) * box.width;
      go(Math.round(((x - box.left) / (box.width - box.left - box.right)) * Math.max(n - 1, 1)));
    };
    place.addEventListener("pointerdown", (e) => { down = true; at(e); });
    place.addEventListener("pointermove", (e) => { if (down) at(e); });
    addEventListener("pointerup", () => { down = false; });
    new ResizeObserver(() => { if (this.series && place.clientWidth !== box.width) this.draw(); }).observe(place);
  }

  show(stack, series) {
    this.stack = stack;
    this.series = series;
    const names = stack.classes.map((c) => c.name);
    if (!names.includes(this.chosen)) this.chosen = names.includes(stack.finding) ? stack.finding : this.highest(names);
    this.choose(this.chosen);
    this.draw();
  }

  highest(names) {
    const best = names.map((_, c) => Math.max(...this.series.slices.map((s) => s.scores?.[c] ?? 0)));
    return names[best.indexOf(Math.max(...best))];
  }

  x(i) { return box.left + (i * (box.width - box.left - box.right)) / Math.max(this.series.slices.length - 1, 1); }

  y(p) { return box.top + (1 - p) * (box.height - box.top - box.bottom); }

  line(c, kind) {
    const points = this.series.slices.map((s, i) => (s.scores ? `${this.x(i).toFixed(1)},${this.y(s.scores[c]).toFixed(1)}` : "")).filter(Boolean);
    return make("polyline", { class: kind, points: points.join(" ") });
  }

  draw() {
    const { classes } = this.stack, { slices } = this.series;
    const c = classes.findIndex((k) => k.name === this.chosen);
    box.width = this.place.clientWidth || 600;
    const svg = make("svg", { viewBox: `0 0 ${box.width} ${box.height}`, role: "img" });
    const end = box.width - box.right;
    for (const p of [0, 0.5, 1]) {
      svg.append(make("line", { class: "axis", x1: box.left, x2: end, y1: this.y(p), y2: this.y(p) }));
      svg.append(make("text", { x: box.left - 6, y: this.y(p) + 4, "text-anchor": "end" }, p));
    }
    svg.append(make("text", { x: box.left, y: box.height - 5 }, "lowest slice"), make("text", { x: end, y: box.height - 5, "text-anchor": "end" }, "highest slice"));
    classes.forEach((_, i) => { if (i !== c) svg.append(this.line(i, "other")); });
    if (c >= 0) {
      const threshold = classes[c].threshold;
      svg.append(make("line", { class: "threshold", x1: box.left, x2: end, y1: this.y(threshold), y2: this.y(threshold) }));
      svg.append(make("text", { class: "threshold-text", x: end, y: this.y(threshold) - 4, "text-anchor": "end" }, `threshold ${threshold.toFixed(2)}`));
      svg.append(this.line(c, "main"));
      let above = 0;
      slices.forEach((s, i) => {
        if (!s.scores) {
          svg.append(make("rect", { class: "gap", x: this.x(i) - 2, y: this.y(0) - 5, width: 4, height: 5 }));
          return;
        }
        const over = s.scores[c] >= threshold;
        above += over;
        svg.append(make("circle", { class: over ? "over" : "under", cx: this.x(i), cy: this.y(s.scores[c]), r: over ? 3.6 : 2.2 }));
      });
      svg.setAttribute("aria-label", `${named(this.chosen)}: ${above} of ${slices.length} slices at or above the threshold ${threshold.toFixed(2)}`);
    }
    this.mark = make("line", { class: "cursor", x1: 0, x2: 0, y1: box.top, y2: this.y(0) });
    svg.append(this.mark);
    this.svg = svg;
    this.place.replaceChildren(svg);
    this.legend.replaceChildren(...classes.map((k) => {
      const b = document.createElement("button");
      b.type = "button";
      b.textContent = k.name;
      b.setAttribute("aria-pressed", k.name === this.chosen);
      b.addEventListener("click", () => { this.chosen = k.name; this.choose(k.name); this.draw(); });
      return b;
    }));
    this.cursor(this.index ?? 0);
  }

  cursor(index) {
    this.index = index;
    for (const end of ["x1", "x2"]) this.mark.setAttribute(end, this.x(index));
  }

  // words says the score of a slice.
  words(slice) {
    if (!slice.scores) return slice.why || "not seen by the model";
    const c = this.stack.classes.findIndex((k) => k.name === this.chosen);
    return c < 0 ? "" : `${named(this.chosen)} ${slice.scores[c].toFixed(2)}`;
  }
}
