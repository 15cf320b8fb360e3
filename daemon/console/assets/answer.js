// Answers to alerts: sent without leaving the page, once, and never in silence.

import { loggedOut, say } from "./header.js";

// answers takes over every form of an answer below root. after is called with
// what came of it.
export function answers(root, after = () => {}) {
  root.addEventListener("submit", async (e) => {
    const form = e.target;
    if (!form.matches("form[data-answer]")) return;
    e.preventDefault();
    if (form.dataset.busy) return; // a second tap
    form.dataset.busy = "true";
    const buttons = form.querySelectorAll("button");
    const body = new URLSearchParams(new FormData(form, e.submitter));
    buttons.forEach((b) => { b.disabled = true; });
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" }, redirect: "error" });
      if (answer.status === 401) { loggedOut(); return; }
      if (!(answer.headers.get("Content-Type") || "").startsWith("application/json")) {
        say(`Not recorded: ${await answer.text()}`, true);
        return;
      }
      const said = await answer.json();
      say(said.message, !said.ok);
      const seen = form.querySelector("input[name=seen]");
      if (seen && said.number !== undefined) seen.value = said.number;
      after(said);
    } catch {
      say("Not sent: no connection to the device. Try again.", true);
    } finally {
      delete form.dataset.busy;
      buttons.forEach((b) => { b.disabled = false; });
    }
  });
}
