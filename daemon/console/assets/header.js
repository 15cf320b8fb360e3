// What every page has: the colours, the sound, ages that tick, and words to the person.

const orders = ["", "light", "dark"];
const names = { "": "as the system", light: "light", dark: "dark" };

function theme() {
  const button = document.getElementById("theme");
  if (!button) return;
  const now = () => localStorage.getItem("ichwatch-theme") || "";
  const show = () => { document.getElementById("theme-now").textContent = names[now()]; button.title = `Colours: ${names[now()]}`; };
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = orders[(orders.indexOf(now()) + 1) % orders.length];
    if (next) localStorage.setItem("ichwatch-theme", next); else localStorage.removeItem("ichwatch-theme");
    dispatchEvent(new Event("theme"));
    show();
  });
  show();
}

let audio = null;

function sound() {
  const button = document.getElementById("sound");
  if (!button || !window.AudioContext) return;
  button.hidden = false;
  button.addEventListener("click", () => { // a browser plays nothing before a person has asked
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    audio = on ? audio || new AudioContext() : audio;
    if (on) chime();
  });
}

// chime plays two tones, where the person wants any.
export function chime() {
  if (!audio || document.getElementById("sound").getAttribute("aria-pressed") !== "true") return;
  [[880, 0], [660, 0.22], [880, 0.44]].forEach(([pitch, at]) => {
    const tone = audio.createOscillator(), level = audio.createGain(), start = audio.currentTime + at;
    tone.frequency.value = pitch;
    level.gain.setValueAtTime(0.0001, start);
    level.gain.exponentialRampToValueAtTime(0.4, start + 0.02);
    level.gain.exponentialRampToValueAtTime(0.0001, start + 0.2);
    tone.connect(level).connect(audio.destination);
    tone.start(start);
    tone.stop(start + 0.21);
  });
}

// long and short say how long ago something was.
function long(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${String(Math.floor(seconds / 60) % 60).padStart(2, "0")} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

function short(seconds) {
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function tick() {
  for (const t of document.querySelectorAll("time[data-age]")) {
    const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(t.dateTime)) / 1000));
    const text = t.dataset.age === "short" ? short(seconds) : long(seconds);
    if (t.textContent !== text) t.textContent = text;
  }
}

let saying = 0;

// say tells the person something that passes; what is bad stays longer.
export function say(text, bad = false) {
  const box = document.getElementById("said");
  box.textContent = text;
  box.classList.toggle("bad", bad);
  box.hidden = false;
  clearTimeout(saying);
  saying = setTimeout(() => { box.hidden = true; }, bad ? 12000 : 5000);
}

// shout is for those who do not see.
export function shout(text) { document.getElementById("loud").textContent = text; }

// loggedOut leads to the login, and back here afterwards.
export function loggedOut() { location.assign(`/login?over=1&next=${encodeURIComponent(location.pathname)}`); }

// awake tells the device now and then that a person is at work here.
function awake() {
  let told = Date.now();
  const tell = () => {
    if (Date.now() - told < 60000) return;
    told = Date.now();
    fetch("/awake", { cache: "no-store" }).then((a) => { if (a.status === 401) loggedOut(); }, () => {});
  };
  for (const act of ["pointerdown", "keydown", "wheel"]) addEventListener(act, tell, { passive: true });
}

theme();
sound();
awake();
tick();
setInterval(tick, 1000);
