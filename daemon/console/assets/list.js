// The list, kept as it is on the device.

import { tick } from "./header.js";
import { live, notice } from "./live.js";
import { answers } from "./answer.js";

const sources = new WeakMap(); // element -> markup as it came
for (const e of document.querySelectorAll(".alert, .line")) sources.set(e, e.outerHTML);

// merge brings the list to what came. What has not changed stays the very same
// element in the very same place, so that focus, hover and pictures stay too.
function merge(list, next) {
  const focused = document.activeElement?.closest?.("[data-act], a");
  const focusRow = focused?.closest(".alert, .line")?.dataset.key, focusAct = focused?.dataset.act;
  const rows = new Map();
  for (const row of list.querySelectorAll(".alert, .line")) rows.set(row.dataset.key, row);
  for (const name of ["open", "newest"]) list.dataset[name] = next.dataset[name];
  reconcile(list, next, rows);
  if (focusRow && document.activeElement === document.body) {
    const row = list.querySelector(`[data-key="${CSS.escape(focusRow)}"]`);
    (row?.querySelector(`[data-act="${focusAct}"]`) || row?.querySelector("button, a"))?.focus({ preventScroll: true });
  }
}

function reconcile(into, from, rows) {
  const wanted = [...from.children].map((child) => {
    if (child.matches("section, ul")) {
      const mine = [...into.children].find((e) => e.tagName === child.tagName && e.dataset.key === child.dataset.key);
      if (mine) {
        mine.hidden = child.hidden;
        reconcile(mine, child, rows);
        return mine;
      }
    }
    const before = rows.get(child.dataset.key), source = child.outerHTML;
    if (before && sources.get(before) === source) return before;
    const fresh = document.adoptNode(child);
    for (const e of fresh.matches(".alert, .line") ? [fresh] : fresh.querySelectorAll(".alert, .line")) sources.set(e, e.outerHTML);
    const picture = before?.querySelector(".thumb img");
    if (picture) fresh.querySelector(".thumb")?.append(picture);
    return fresh;
  });
  for (const e of [...into.children]) if (!wanted.includes(e)) e.remove();
  wanted.forEach((e, i) => { if (into.children[i] !== e) into.insertBefore(e, into.children[i] || null); });
}

// pictures puts the key slice beside each alert, where the role may see it.
function pictures(list) {
  if (document.body.dataset.role === "display") return;
  for (const place of list.querySelectorAll(".thumb:empty")) {
    const picture = new Image();
    picture.alt = "";
    picture.onerror = () => picture.remove();
    picture.src = `/study/${place.dataset.study}/slice/key/brain.png`;
    place.append(picture);
  }
}

const list = document.getElementById("list");
notice(list);
pictures(list);
answers(document);
live((markup) => {
  const next = new DOMParser().parseFromString(markup, "text/html").getElementById("list");
  merge(list, next);
  notice(list);
  pictures(list);
  tick();
});
