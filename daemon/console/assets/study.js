// A study's page: the slices, the scores, and what becomes of its alert.

import { say, tick } from "./header.js";
import { live, notice } from "./live.js";
import { answers } from "./answer.js";
import { Viewer } from "./viewer.js";
import { Plot } from "./plot.js";

const study = document.body.dataset.study;
const stage = document.getElementById("stage");
let viewer = null, plot = null, stack = null;

async function fetchStack() {
  const answer = await fetch(`/study/${study}/stack`, { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// show puts a series on the stage, at its key slice unless one is named.
function show(index, id) {
  const series = stack.series[index];
  const at = id ? Math.max(0, series.slices.findIndex((s) => s.id === id)) : series.key;
  plot.show(stack, series);
  viewer.show(series, at);
}

function choices() {
  const select = document.getElementById("series"), label = select.parentElement;
  label.hidden = stack.series.length < 2;
  select.replaceChildren(...stack.series.map((s, i) => new Option(`${i + 1}: ${s.slices.length} slices`, i)));
}

async function begin() {
  stack = await fetchStack();
  if (stack.series.length === 0) return;
  const score = () => { if (viewer.current()) document.getElementById("c-score").textContent = plot.words(viewer.current()); };
  viewer = new Viewer(study, stage, (i) => { plot.cursor(i); score(); });
  plot = new Plot(document.getElementById("plot"), document.getElementById("legend"), (i) => viewer.go(i), (name) => { viewer.of(name); score(); });
  choices();
  document.getElementById("series").addEventListener("change", (e) => show(Number(e.target.value)));
  show(0);
}

// follow keeps the panel as it is on the device, and the stack while slices come.
function follow() {
  const panel = () => document.getElementById("panel");
  let row = null, slices = panel().dataset.slices, finding = panel().dataset.finding;
  const refresh = async () => {
    const answer = await fetch(`/study/${study}/panel`, { cache: "no-store" });
    if (!answer.ok) return;
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("panel");
    const act = document.activeElement?.dataset?.act;
    panel().replaceWith(next);
    if (act) next.querySelector(`[data-act="${act}"]`)?.focus({ preventScroll: true });
    tick();
    if (next.dataset.slices === slices && next.dataset.finding === finding) return;
    slices = next.dataset.slices;
    finding = next.dataset.finding;
    if (!stage) { location.reload(); return; } // the first slice has come
    const before = viewer?.current()?.id;
    stack = await fetchStack();
    choices();
    show(Math.max(0, stack.series.findIndex((s) => s.slices.some((x) => x.id === before))), before);
  };
  answers(document, refresh);
  live((markup) => {
    const list = new DOMParser().parseFromString(markup, "text/html");
    notice(list.getElementById("list"));
    const next = list.querySelector(`[data-key="${CSS.escape(study)}"]`)?.outerHTML;
    if (next === row) return;
    const known = row !== null;
    row = next;
    if (known || next) refresh().catch(() => {}); // a lost connection is said elsewhere
  });
}

if (stage) begin().catch((e) => say(`The slices cannot be shown: ${e.message}`, true));
follow();
