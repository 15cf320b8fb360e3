// The technician's page, looked at anew every few seconds.

import { say } from "./header.js";
import { live, notice } from "./live.js";

const every = 5000;

async function again() {
  const log = document.querySelector(".log"), at = log?.scrollTop || 0;
  try {
    const answer = await fetch("/device/now", { headers: { Accept: "text/html" }, redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect") { location.reload(); return; }
    if (!answer.ok) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("device");
    document.getElementById("device").replaceWith(next);
    next.querySelector(".log").scrollTop = at;
  } catch (e) {
    say(`What you see of the device is old: ${e.message}`, true);
  }
}

live((markup) => notice(new DOMParser().parseFromString(markup, "text/html").getElementById("list")));
if (document.getElementById("device")) setInterval(() => { if (document.visibilityState === "visible") again(); }, every);
