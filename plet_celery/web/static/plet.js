// What plet's pages gain by JavaScript: live regions, copying, keys, the browser's own zone.
// Nothing here is needed to read a page.

const root = document.getElementById("plet");
const POLL_MS = 2000;
const SLOWEST_MS = 30000;

document.documentElement.classList.add("plet-has-js");

// ---- Times: words that grow old are written anew from `datetime`

const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
let skew = 0; // milliseconds by which the server's clock is ahead

function spanOf(seconds) {
  const total = Math.max(0, Math.floor(seconds));
  if (total < 60) return `${total} s`;
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (days) return `${days} d ${two(hours)} h`;
  if (hours) return `${hours} h ${two(minutes)} m ${two(total % 60)} s`;
  return `${minutes} m ${two(total % 60)} s`;
}

function agoOf(seconds) {
  const size = Math.abs(seconds);
  const unit = UNITS.find(([, length]) => size >= length);
  if (!unit) return "now";
  const words = `${Math.floor(size / unit[1])}${unit[0]}`;
  return seconds > 0 ? `${words} ago` : `in ${words}`;
}

function aboutOf(seconds) {
  const total = Math.max(0, Math.floor(seconds));
  if (total < 60) return `${total} s`;
  const parts = [[Math.floor(total / 86400), "d"], [Math.floor(total / 3600) % 24, "h"], [Math.floor(total / 60) % 60, "min"]];
  const first = parts.findIndex(([number]) => number);
  return parts.slice(first, first + 2).filter(([number]) => number).map((one) => one.join(" ")).join(" ");
}

const dueOf = (left) => (left >= 0 ? `${aboutOf(left)} left` : `late by ${aboutOf(-left)}`);

function clockOf(at, now) {
  const zoned = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" }).format(at);
  const [day, time] = [zoned.slice(0, 10), zoned.slice(11)];
  const today = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" }).format(now);
  return { full: zoned, time: day === today ? time : zoned };
}

function zoneWord(at) {
  const part = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(at);
  return part.find((one) => one.type === "timeZoneName")?.value ?? "";
}

function serverTime(words, now) {
  // In UTC the browser can go on by itself; of the server's own zone it knows nothing.
  return words.endsWith(" UTC") ? now.toISOString().slice(0, 19).replace("T", " ") : words.replace(/ \S*$/, "");
}

function writeTimes(within = root) {
  const now = new Date(Date.now() + skew);
  const isMine = root.dataset.zone === "browser";
  for (const element of within.querySelectorAll("time[data-plet]")) {
    const at = element.dataset.plet === "now" ? now : new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const past = (now - at) / 1000;
    const form = element.dataset.plet;
    let words = element.textContent;
    if (form === "for") words = spanOf(past);
    else if (form === "due") words = dueOf(-past);
    else if (form === "ago") words = agoOf(past);
    else if (form === "next") words = past < 0 ? agoOf(past) : "soon";
    else if (form === "now" && !isMine) words = words.replace(/^.*\d:\d\d:\d\d/, serverTime(words, now));
    else if (isMine) {
      const clock = clockOf(at, now);
      words = form === "time" ? clock.time : form === "hm" ? clock.time.slice(0, -3) : `${form === "both" ? clock.time : clock.full} ${zoneWord(at)}`;
      if (form === "both") words = `${agoOf(past)} · ${words}`;
    } else if (form === "both") words = words.replace(/^[^·]*· /, `${agoOf(past)} · `);
    if (words !== element.textContent) element.textContent = words;
    if (isMine && !["for", "now"].includes(form)) element.title = `${clockOf(at, now).full} ${zoneWord(at)}`;
  }
}

function writeLogTimes() {
  // The lines of a log have the time of day alone; each is written once.
  if (root.dataset.zone !== "browser") return;
  for (const element of document.querySelectorAll(".plet-log-time[datetime]:not([data-mine])")) {
    const at = new Date(element.dateTime);
    element.dataset.mine = "";
    if (!Number.isNaN(at.getTime())) element.textContent = `${clockOf(at, at).time}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  }
}

// ---- Live regions: the page's own address, one region at a time; unchanged ones cost a 304

const regions = [...document.querySelectorAll("[data-region]")];
const tags = new Map();
const pill = document.getElementById("plet-live");
const live = { isPaused: false, wait: POLL_MS, timer: 0, goodAt: Date.now() };

const ENDS = { 401: "⚠ Signed out: load the page again", 403: "⚠ Not allowed any more", 404: "⚠ Not here any more" };

function tell(state, words) {
  if (!pill || (pill.dataset.state === state && pill.textContent === words)) return;
  pill.dataset.state = state;
  pill.textContent = words;
}

/** Say since when nothing has been heard: what is shown stays as it was then. */
function sayStale(isStale) {
  const note = document.getElementById("plet-stale");
  if (!note) return;
  note.hidden = !isStale;
  const time = note.querySelector("time");
  time.dateTime = new Date(live.goodAt + skew).toISOString();
  time.textContent = agoOf((Date.now() - live.goodAt) / 1000);
}

function isInUse(element) {
  const chosen = document.getSelection();
  if (chosen && !chosen.isCollapsed && element.contains(chosen.anchorNode)) return true;
  const active = document.activeElement;
  if (element.contains(active) && ["INPUT", "SELECT", "TEXTAREA"].includes(active.tagName)) return true;
  // What was typed and not sent yet is in use, wherever the focus is by now.
  return [...element.querySelectorAll("input, textarea")].some((one) =>
    ["checkbox", "radio"].includes(one.type) ? one.checked !== one.defaultChecked : one.value !== one.defaultValue);
}

/** What a fold or a button is after its region was drawn anew: by its id, else by the place in what it belongs to. */
function nameOf(one) {
  if (one.id) return `#${one.id}`;
  const item = one.closest("[data-row], li, tr, section");
  const like = [...(item ?? root).querySelectorAll(one.tagName)];
  const link = item?.querySelector("a[href]")?.getAttribute("href") ?? item?.id ?? "";
  return `${one.tagName} ${link} ${like.indexOf(one)}`;
}

function replace(element, html) {
  const open = new Map([...element.querySelectorAll("details")].map((one) => [nameOf(one), one.open]));
  const chosen = element.querySelector(".plet-here a")?.getAttribute("href");
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const focused = active?.getAttribute("href");
  const pressed = active && !focused ? nameOf(active) : null;
  element.innerHTML = html; // the server's own markup, as in the page itself
  for (const one of element.querySelectorAll("details")) if (open.has(nameOf(one))) one.open = open.get(nameOf(one));
  // By its link: rows that came meanwhile have moved it.
  if (chosen) element.querySelector(`[data-row] a[href="${CSS.escape(chosen)}"]`)?.closest("[data-row]").classList.add("plet-here");
  if (focused) element.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  if (pressed) [...element.querySelectorAll("summary, button")].find((one) => nameOf(one) === pressed)?.focus({ preventScroll: true });
  writeTimes(element);
}

async function refetch(element) {
  const name = element.dataset.region;
  const address = new URL(location.href);
  address.hash = "";
  address.searchParams.set("region", name);
  const headers = tags.has(name) ? { "If-None-Match": tags.get(name) } : {};
  const answer = await fetch(address, { headers, cache: "no-store", credentials: "same-origin", redirect: "error" });
  const date = Date.parse(answer.headers.get("Date") ?? "");
  if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 1500) skew = date - Date.now();
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error(String(answer.status));
  const html = await answer.text();
  if (live.isPaused || isInUse(element)) return;
  replace(element, html);
  if (element.querySelector(":scope > .plet-trouble")) {
    tags.delete(name);
    throw new Error("no answer"); // the region says why itself
  }
  tags.set(name, answer.headers.get("ETag"));
}

async function round() {
  if (live.isPaused || document.hidden) return;
  const results = await Promise.allSettled(regions.map(refetch));
  if (live.isPaused) return; // paused while they were on their way
  const isFailing = results.some((one) => one.status === "rejected");
  if (!isFailing) live.goodAt = Date.now();
  sayStale(results.every((one) => one.status === "rejected"));
  const end = results.map((one) => ENDS[one.reason?.message]).find(Boolean);
  if (end) { // asking again would not help; a click on the pill does ask
    tell("trouble", end);
    return;
  }
  if (isFailing) {
    live.wait = Math.min(SLOWEST_MS, live.wait * 2);
    tell("trouble", `⚠ Reconnecting ${Math.round(live.wait / 1000)} s`);
  } else {
    live.wait = document.querySelector("#plet-run:not([data-open])") ? POLL_MS * 5 : POLL_MS;
    tell("live", "● Live");
  }
  plan();
}

function plan() {
  clearTimeout(live.timer);
  if (!live.isPaused && !document.hidden) live.timer = setTimeout(round, live.wait);
}

function pause(isPaused) {
  live.isPaused = isPaused;
  tell(isPaused ? "paused" : "live", isPaused ? "‖ Paused" : "● Live");
  if (isPaused) clearTimeout(live.timer);
  else round();
}

// ---- Copying, on plain HTTP too

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let a page copy");
}

function textToCopy(button) {
  if ("copyAddress" in button.dataset) return location.href;
  if (button.dataset.copyFrom) return document.getElementById(button.dataset.copyFrom)?.textContent ?? "";
  return button.dataset.copy;
}

async function onCopy(button) {
  const words = button.textContent;
  try {
    await copy(textToCopy(button));
    button.textContent = "copied";
  } catch {
    button.textContent = "cannot copy";
  }
  setTimeout(() => { button.textContent = words; }, 1500);
}

// ---- Keys

function rows() {
  return [...document.querySelectorAll("[data-row]")];
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("plet-here"));
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by));
  all[at]?.classList.remove("plet-here");
  all[next].classList.add("plet-here");
  all[next].scrollIntoView({ block: "nearest" });
  all[next].querySelector("a")?.focus({ preventScroll: true });
}

function theme() {
  const next = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
  const button = document.querySelector(`[data-bs-theme-value="${next}"]`);
  if (button) button.click();
  else document.documentElement.dataset.bsTheme = next;
}

/** A row leads wherever its name leads; what acts by itself, and words that are marked, do not. */
function onRow(event) {
  const row = event.target.closest?.("[data-leads]");
  if (!row || event.target.closest("a, button, input, label, select, summary, textarea")) return;
  if (!document.getSelection().isCollapsed) return;
  const { ctrlKey, metaKey, shiftKey } = event;
  row.querySelector("a")?.dispatchEvent(
    new MouseEvent("click", { ctrlKey, metaKey, shiftKey, bubbles: true, cancelable: true }));
}

const help = document.getElementById("plet-help");
const keys = {
  "/": () => (document.getElementById("plet-q") ?? document.querySelector('input[name="log_q"]'))?.focus(),
  j: () => step(1),
  k: () => step(-1),
  t: theme,
  "?": () => (help.open ? help.close() : help.showModal()),
};
const places = { r: "", a: "alerts", w: "workers", h: "health" };
let isGoing = false;

function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const target = event.target;
  if (target.closest?.("input, textarea, select, [contenteditable]")) return;
  if (isGoing) {
    isGoing = false;
    if (event.key in places) location.assign(root.dataset.home + places[event.key]);
    return;
  }
  if (help.open && event.key !== "?") return;
  if (event.key === "g") {
    isGoing = true;
    setTimeout(() => { isGoing = false; }, 1500);
  } else if (event.key === "Enter") {
    if (!target.closest("a, button, summary")) document.querySelector(".plet-here a")?.click();
  } else if (Object.hasOwn(keys, event.key)) {
    event.preventDefault();
    keys[event.key]();
  } else {
    document.dispatchEvent(new CustomEvent("plet-key", { detail: event.key }));
  }
}

// ---- Wiring

document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".plet-copy");
  if (button) onCopy(button);
  else onRow(event);
});
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(live.timer);
  else if (!live.isPaused) round();
});
pill?.addEventListener("click", () => pause(!live.isPaused));
document.getElementById("plet-keys")?.addEventListener("click", () => help.showModal());
for (const link of document.querySelectorAll(".plet-zones a")) {
  // Keep the rest of the address: a link alone would forget the filters.
  const address = new URL(location.href);
  address.searchParams.set("tz", link.dataset.zone);
  link.href = address.search + address.hash;
}
function tick() {
  if (document.hidden) return;
  writeTimes();
  writeLogTimes();
}

tick();
setInterval(tick, 1000);
if (regions.length) {
  tell("live", "● Live");
  plan();
}
