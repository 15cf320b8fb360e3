// The technician's page, looked at anew every few seconds.

import "./header.js";
import { say } from "./header.js";

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
    document.body.classList.remove("is-lost");
  } catch {
    document.body.classList.add("is-lost");
    say("No connection to the device: what you see is old.", true);
  }
}

if (document.getElementById("device")) setInterval(() => { if (document.visibilityState === "visible") again(); }, every);
