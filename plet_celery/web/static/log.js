// The log viewer beyond links and forms: follow, permalinks and ranges, copy, switches without a reload.
// An ES module without dependencies. It looks for [data-plet-log] when it is loaded; call attach(element)
// for a viewer that came later. Nothing is put on window.

import { Following, ROWS_MAX } from "./log-follow.js";
import { copyText, parseFragment, spaced, textOf } from "./log-text.js";

export { copyText, parseFragment };

const viewers = new WeakMap();

/** Make a viewer live; returns what the keys of a page call: follow(), wrap(), nextError(), search(). */
export function attach(root) {
  let viewer = viewers.get(root);
  if (!viewer) {
    viewer = new Viewer(root);
    viewers.set(root, viewer);
  }
  return viewer;
}

/** Return the viewer of the page, if there is one. */
export function viewerOf(page = document) {
  const root = page.querySelector("[data-plet-log]");
  return root ? attach(root) : null;
}

class Viewer {
  constructor(root) {
    this.root = root;
    this.box = root.querySelector(".plet-log-box");
    this.rows = root.querySelector("[data-log-rows]");
    this.position = root.dataset.position;
    this.isOpen = "open" in root.dataset;
    this.marked = [];
    this.anchor = null;
    root.classList.add("plet-log-js");
    this.#wireForm();
    this.#wireSwitches();
    this.#wireLines();
    this.#wireCopy();
    const wasShown = this.#showFragment() || this.#showCurrent();
    if (!wasShown && "atEnd" in root.dataset) this.box.scrollTop = this.box.scrollHeight;
    this.following = new Following(this, this.isOpen && this.position !== "" && !wasShown);
  }

  /** Follow or pause. */
  follow() {
    this.following.toggle();
  }

  /** Wrap long lines, or do not. */
  wrap() {
    this.root.querySelector('[data-log-switch="wrap"]')?.click();
  }

  /** Put the cursor into the search. */
  search() {
    this.root.querySelector('input[name="log_q"]')?.focus();
  }

  /** Go to the next error: in the lines shown, else in those the server has. */
  nextError() {
    const errors = [...this.rows.querySelectorAll(".plet-log-error")];
    const top = this.box.getBoundingClientRect().top + this.box.clientHeight / 2 + 4;
    const next = errors.find((row) =>
      this.lastError ? this.lastError.compareDocumentPosition(row) & Node.DOCUMENT_POSITION_FOLLOWING
        : row.getBoundingClientRect().top > top);
    if (next) {
      this.lastError = next;
      this.reveal(next, { page: true });
      this.#mark([next]);
      return;
    }
    const link = this.root.querySelector("[data-log-next-error]");
    if (link) link.click();
    else this.say("No further error");
  }

  /** Bring a row into the middle of the box, and open the fold that it lies in. */
  reveal(row, { page = false } = {}) {
    const fold = row.closest("details");
    if (fold) fold.open = true;
    // Twice: what was not laid out yet gets its height only when it is near.
    for (let time = 0; time < 2; time += 1) {
      const offset = row.getBoundingClientRect().top - this.box.getBoundingClientRect().top;
      this.box.scrollTop += offset - this.box.clientHeight / 2;
    }
    if (page) this.box.scrollIntoView({ block: "nearest" });
  }

  /** Say something for a moment. */
  say(text) {
    const hint = this.root.querySelector("[data-log-hint]");
    hint.textContent = text;
    hint.hidden = false;
    clearTimeout(this.hintTimer);
    this.hintTimer = setTimeout(() => { hint.hidden = true; }, 2000);
  }

  /** The number of rows shown. */
  get count() {
    return this.rows.querySelectorAll(".plet-log-row").length;
  }

  #wireForm() {
    const form = this.root.querySelector("form");
    for (const select of form.querySelectorAll("select")) {
      select.addEventListener("change", () => form.requestSubmit());
    }
    form.addEventListener("submit", () => {
      const empty = [...form.elements].filter((one) => one.name && one.value === "" && !one.disabled);
      for (const one of empty) one.disabled = true;
      setTimeout(() => { for (const one of empty) one.disabled = false; });
    });
    const menu = this.root.querySelector(".plet-log-more");
    document.addEventListener("click", (event) => {
      if (menu.open && !menu.contains(event.target)) menu.open = false;
    });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }

  #wireSwitches() {
    const classes = { ts: "plet-log-times", wrap: "plet-log-wrap" };
    for (const link of this.root.querySelectorAll("[data-log-switch]")) {
      const name = classes[link.dataset.logSwitch];
      if (!name) continue; // colours are the server's
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        const isOn = this.root.classList.toggle(name);
        if (isOn) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
        this.#remember(`log_${link.dataset.logSwitch}`, isOn ? null : "0", link);
      });
    }
  }

  /** Put a switch into the address, into every link and into the form. */
  #remember(name, value, own) {
    const url = new URL(location.href);
    change(url.searchParams, name, value);
    history.replaceState(history.state, "", url);
    for (const link of this.root.querySelectorAll('a[href^="?"]:not(.plet-log-n)')) {
      const [query, fragment] = link.getAttribute("href").split("#");
      const values = new URLSearchParams(query);
      change(values, name, link === own && value === null ? "0" : link === own ? null : value);
      link.setAttribute("href", `?${values}${fragment ? `#${fragment}` : ""}`);
    }
    const form = this.root.querySelector("form");
    form.querySelector(`input[name="${name}"]`)?.remove();
    if (value !== null) {
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name, value });
      form.prepend(field);
    }
  }

  #wireLines() {
    this.rows.addEventListener("click", (event) => {
      const link = event.target.closest("a.plet-log-n");
      if (!link || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const here = parseFragment(`#${link.closest("[id]").id}`);
      const isRange = event.shiftKey && this.anchor && this.anchor.attempt === here.attempt;
      if (!isRange) this.anchor = here;
      const [first, last] = isRange
        ? [Math.min(this.anchor.first, here.first), Math.max(this.anchor.first, here.first)]
        : [here.first, here.first];
      this.#markRange({ attempt: here.attempt, first, last });
      const url = new URL(location.href);
      for (const name of ["log_from", "log_to", "log_error", "log_hit"]) url.searchParams.delete(name);
      url.searchParams.set("log_at", `a${here.attempt}L${first}`);
      url.hash = `a${here.attempt}L${first}${last > first ? `-L${last}` : ""}`;
      history.replaceState(history.state, "", url);
      getSelection()?.removeAllRanges();
    });
    addEventListener("hashchange", () => this.#showFragment());
  }

  #showFragment() {
    const where = parseFragment(location.hash);
    if (!where) return false;
    const row = this.#markRange(where);
    if (row) {
      this.anchor = where;
      this.reveal(row, { page: true });
      return true;
    }
    const name = `a${where.attempt}L${where.first}`;
    const url = new URL(location.href);
    if (url.searchParams.get("log_at") === name) return false;
    for (const other of ["log_from", "log_to", "log_error", "log_hit"]) url.searchParams.delete(other);
    url.searchParams.set("log_at", name);
    location.replace(url);
    return true;
  }

  #showCurrent() {
    const row = this.rows.querySelector(".plet-log-current");
    if (row) this.reveal(row);
    return Boolean(row);
  }

  #markRange({ attempt, first, last }) {
    const found = [];
    for (let number = first; number <= Math.min(last, first + ROWS_MAX); number += 1) {
      const row = document.getElementById(`a${attempt}L${number}`);
      if (row && this.rows.contains(row)) found.push(row);
    }
    this.#mark(found);
    return found[0];
  }

  #mark(rows) {
    for (const row of this.marked) row.classList.remove("plet-log-marked");
    for (const row of rows) row.classList.add("plet-log-marked");
    this.marked = rows;
  }

  #wireCopy() {
    for (const button of this.root.querySelectorAll("[data-log-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const rows = this.marked.length ? this.marked : [...this.rows.querySelectorAll(".plet-log-row")];
        const text = textOf(rows, button.dataset.logCopy === "lines");
        const done = await copyText(text);
        button.closest("details").open = false;
        this.say(done ? `Copied ${spaced(rows.length)} line${rows.length === 1 ? "" : "s"}` : "Not copied");
      });
    }
    // A selection over several lines is copied as their text, without what stands before it.
    this.box.addEventListener("copy", (event) => {
      const selection = getSelection();
      if (!selection.rangeCount || selection.isCollapsed) return;
      const range = selection.getRangeAt(0);
      const rows = [...this.rows.querySelectorAll(".plet-log-row")].filter((row) => range.intersectsNode(row));
      if (rows.length < 2) return;
      event.clipboardData.setData("text/plain", textOf(rows, false));
      event.preventDefault();
    });
  }
}

function change(values, name, value) {
  if (value === null) values.delete(name);
  else values.set(name, value);
}

for (const root of document.querySelectorAll("[data-plet-log]")) attach(root);

// The page hands on the keys that it does not know.
const KEYS = { f: (viewer) => viewer.follow(), w: (viewer) => viewer.wrap(), e: (viewer) => viewer.nextError() };
document.addEventListener("plet-key", (event) => {
  const viewer = viewerOf();
  if (viewer && Object.hasOwn(KEYS, event.detail)) KEYS[event.detail](viewer);
});
