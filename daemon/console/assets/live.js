// The stream of lists. Says loudly when the connection is lost, and gets it back.

import { chime, loggedOut, say, shout } from "./header.js";

const silence = 12500; // ms; twice the beat of the server, and some

// live calls onList with the markup of every new list.
export function live(onList) {
  const sign = document.getElementById("live"), box = document.getElementById("lost");
  let stream = null, heard = Date.now(), lost = false, again = 0;
  sign.hidden = false;

  const alive = () => {
    heard = Date.now();
    if (!lost) return;
    lost = false;
    again = 0;
    box.hidden = true;
    sign.textContent = "live";
    sign.classList.remove("gone");
    document.body.classList.remove("is-lost");
    shout("Connected again.");
  };
  const dead = () => {
    if (!lost) {
      lost = true;
      chime();
      sign.textContent = "not connected";
      sign.classList.add("gone");
      document.body.classList.add("is-lost");
      box.hidden = false;
    }
    box.textContent = `Connection lost. What you see is as of ${new Date(heard).toLocaleTimeString([], { hour12: false })}. New alerts do not show here. Trying again…`;
  };
  const open = () => {
    stream?.close();
    stream = new EventSource("/events");
    stream.addEventListener("beat", alive);
    stream.addEventListener("list", (e) => { alive(); onList(e.data); });
    stream.addEventListener("ended", () => { stream.close(); loggedOut(); });
    stream.onerror = () => { dead(); ended(); };
  };
  // ended asks whether the session is over: the stream itself does not say why it fails.
  const ended = async () => {
    if (stream.readyState !== EventSource.CLOSED) return;
    try {
      const answer = await fetch("/events", { method: "HEAD", cache: "no-store" });
      if (answer.status === 401) loggedOut();
    } catch { /* no connection, as was said */ }
  };

  setInterval(() => {
    if (Date.now() - heard < silence) return;
    dead();
    if (stream.readyState === EventSource.CLOSED || Date.now() - again > silence) {
      again = Date.now();
      open();
    }
  }, 1000);
  addEventListener("offline", dead);
  addEventListener("online", open);
  document.addEventListener("visibilitychange", () => { // a phone that slept
    if (document.visibilityState === "visible" && Date.now() - heard > silence / 2) open();
  });
  open();
}

const seen = new Set();
const title = document.title;
let first = true;

// notice tells of alerts that were not there before, by sound, title and icon.
export function notice(list) {
  const open = Number(list.dataset.open), icon = document.querySelector("link[rel=icon]");
  document.title = open > 0 ? `(${open}) ${open === 1 ? "alert" : "alerts"} waiting · ichwatch` : title;
  const studies = document.querySelector('nav a[href="/"]');
  if (open > 0) studies.dataset.open = open; else delete studies.dataset.open;
  icon.href = open > 0 ? icon.dataset.alert : icon.dataset.calm;
  const fresh = [];
  for (const row of list.querySelectorAll(".alert.open")) {
    if (seen.has(row.dataset.alert)) continue;
    seen.add(row.dataset.alert);
    if (!first) fresh.push(row);
  }
  first = false;
  if (fresh.length > 0) {
    chime();
    if (!document.getElementById("list")) say(`New alert: suspected ${fresh[0].dataset.finding} hemorrhage`, true);
    shout(`New alert: suspected ${fresh[0].dataset.finding} hemorrhage. Not for diagnosis.`);
    fresh.forEach((row) => row.classList.add("fresh"));
  }
}
