// The stage: one slice at a time in a window, scrolled by wheel, keys, touch and slider,
// with the heat map above it.

import { Slices } from "./slices.js";
import { tint } from "./heat.js";

export class Viewer {
  // moved(index, slice) is called whenever another slice is on the stage.
  constructor(study, stage, moved) {
    this.study = study;
    this.class = ""; // whose heat map is shown
    this.stage = stage;
    this.moved = moved;
    this.canvas = stage.querySelector("canvas");
    this.pen = this.canvas.getContext("2d");
    this.slices = new Slices(study);
    this.maps = new Map(); // slice and class -> Promise of a map, or null
    this.series = null;
    this.at = 0;
    this.scroll = document.getElementById("scroll");
    this.heat = document.getElementById("heat");
    this.controls();
    this.keys();
    this.touch();
    new ResizeObserver(() => this.fit()).observe(stage);
  }

  current() { return this.series?.slices[this.at]; }

  show(series, at) {
    this.series = series;
    this.scroll.max = series.slices.length;
    this.at = -1;
    this.go(at);
  }

  // go brings a slice on the stage; of many asked for in a row the last one wins.
  async go(index) {
    index = Math.min(Math.max(index, 0), this.series.slices.length - 1);
    if (index === this.at) return;
    this.at = index;
    const slice = this.current();
    this.stage.dataset.at = slice.id;
    this.scroll.value = index + 1;
    this.scroll.setAttribute("aria-valuetext", `slice ${index + 1} of ${this.series.slices.length}`);
    document.getElementById("c-slice").textContent = `${index + 1} / ${this.series.slices.length}${index === this.series.key ? " · key slice" : ""}`;
    document.getElementById("tokey").setAttribute("aria-pressed", index === this.series.key);
    this.moved(index, slice);
    const wait = document.getElementById("wait");
    const late = setTimeout(() => { wait.textContent = "Loading…"; wait.hidden = false; }, 150);
    try {
      const image = await this.slices.get(slice.id);
      if (this.current() !== slice) return;
      wait.hidden = true;
      this.draw(image);
      this.canvas.dataset.slice = slice.id;
      this.ahead();
    } catch (e) {
      if (this.current() !== slice) return;
      this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
      wait.textContent = e.message || "This slice cannot be shown.";
      wait.hidden = false;
    } finally {
      clearTimeout(late);
    }
  }

  // of chooses the class whose heat map is shown.
  of(name) {
    this.class = name;
    if (this.image) this.draw(this.image);
  }

  ahead() {
    const near = [];
    for (let d = 1; d < this.series.slices.length; d++) {
      for (const i of [this.at + d, this.at - d]) if (this.series.slices[i]) near.push(this.series.slices[i].id);
    }
    this.slices.ahead(near);
  }

  draw(image) {
    this.image = image;
    const { rows, columns, hu } = image;
    if (this.canvas.width !== columns || this.canvas.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
    }
    const picture = this.pen.createImageData(columns, rows), out = new Uint32Array(picture.data.buffer);
    const low = this.centre - this.width / 2, scale = 255 / this.width;
    for (let i = 0; i < hu.length; i++) {
      const v = (hu[i] - low) * scale, g = v < 0 ? 0 : v > 255 ? 255 : v | 0;
      out[i] = 0xff000000 | (g << 16) | (g << 8) | g;
    }
    this.pen.putImageData(picture, 0, 0);
    this.stage.querySelectorAll(".side").forEach((e) => { e.textContent = image.sides[e.dataset.side]; });
    this.fit();
    this.overlay(this.current());
  }

  // fit makes the slice as large as the stage allows, its pixels in their true form.
  fit() {
    if (!this.image) return;
    const { rows, columns, aspect } = this.image;
    const k = Math.min(this.stage.clientWidth / columns, this.stage.clientHeight / (rows * aspect));
    this.canvas.style.width = `${columns * k}px`;
    this.canvas.style.height = `${rows * aspect * k}px`;
  }

  async overlay(slice) {
    if (!this.heat || Number(this.heat.value) === 0) return;
    const name = this.class, key = `${slice.id} ${name}`;
    if (!this.maps.has(key)) {
      this.maps.set(key, fetch(`/study/${this.study}/slice/${slice.id}/map?class=${name}`, { cache: "no-store" })
        .then((a) => (a.ok ? a.json() : null)).catch(() => null));
    }
    const map = await this.maps.get(key);
    if (!map || this.current() !== slice || this.class !== name) return;
    tint(this.pen, map, Number(this.heat.value) / 100);
  }

  controls() {
    const buttons = [...document.querySelectorAll("[data-window]")];
    this.window = (name) => {
      for (const b of buttons) {
        const on = b.dataset.window === name;
        b.setAttribute("aria-pressed", on);
        if (!on) continue;
        this.centre = Number(b.dataset.centre);
        this.width = Number(b.dataset.width);
        document.getElementById("c-window").textContent = b.innerText.replace("\n", " · ");
      }
      if (this.image) this.draw(this.image);
    };
    buttons.forEach((b) => b.addEventListener("click", () => this.window(b.dataset.window)));
    document.querySelectorAll("[data-window-of]").forEach((b) => b.addEventListener("click", () => {
      this.window(b.dataset.windowOf);
      this.go(this.series.key);
      this.stage.scrollIntoView({ block: "nearest" });
    }));
    this.window(buttons[0].dataset.window);
    document.getElementById("tokey").addEventListener("click", () => this.go(this.series.key));
    this.scroll.addEventListener("input", () => this.go(Number(this.scroll.value) - 1));
    this.heat?.addEventListener("input", () => this.image && this.draw(this.image));
    let turned = 0;
    this.stage.addEventListener("wheel", (e) => {
      e.preventDefault();
      turned += e.deltaMode === 0 ? e.deltaY / 40 : e.deltaY;
      const steps = Math.trunc(turned);
      if (steps === 0) return;
      turned -= steps;
      this.go(this.at + Math.sign(steps) * Math.min(Math.abs(steps), 3));
    }, { passive: false });
  }

  keys() {
    const names = [...document.querySelectorAll("[data-window]")].map((b) => b.dataset.window);
    const keys = {
      ArrowUp: () => this.go(this.at + 1), ArrowRight: () => this.go(this.at + 1), ArrowDown: () => this.go(this.at - 1), ArrowLeft: () => this.go(this.at - 1),
      PageUp: () => this.go(this.at + 5), PageDown: () => this.go(this.at - 5), Home: () => this.go(0), End: () => this.go(this.series.slices.length - 1),
      k: () => this.go(this.series.key),
      h: () => { if (!this.heat) return; this.heat.value = Number(this.heat.value) > 0 ? 0 : 60; this.draw(this.image); },
    };
    names.forEach((name, i) => { keys[i + 1] = () => this.window(name); });
    document.addEventListener("keydown", (e) => {
      const act = keys[e.key];
      if (!act || !this.series || e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, select, textarea, summary")) return;
      e.preventDefault();
      act();
    });
  }

  // touch scrolls by dragging over the stage, a slice for every few pixels.
  touch() {
    let from = null;
    this.stage.addEventListener("pointerdown", (e) => {
      if (e.button !== 0) return;
      from = { y: e.clientY, at: this.at, id: e.pointerId };
      this.stage.setPointerCapture(e.pointerId);
    });
    this.stage.addEventListener("pointermove", (e) => {
      if (!from || e.pointerId !== from.id) return;
      const step = Math.max(4, Math.min(16, this.stage.clientHeight / this.series.slices.length));
      this.go(from.at + Math.round((from.y - e.clientY) / step));
    });
    for (const end of ["pointerup", "pointercancel"]) this.stage.addEventListener(end, () => { from = null; });
  }
}
