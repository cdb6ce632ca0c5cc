// What follows a log: asks for the lines behind a position, and appends them.

import { parseFragment, spaced } from "./log-text.js";

export const ROWS_MAX = 10000;
const EVERY = 1500;
const WAIT_MAX = 30000;
const BLOCK = 200;

/** Follows one viewer; `isWanted`: from the start. */
export class Following {
  constructor(viewer, isWanted) {
    this.viewer = viewer;
    this.pill = viewer.root.querySelector("[data-log-follow]");
    this.button = viewer.root.querySelector("[data-log-new]");
    this.isLive = false;
    this.isFirst = true;
    this.isStuck = isWanted; // to the end
    this.unseen = 0;
    this.wait = EVERY;
    if (!this.pill) return;
    this.pill.hidden = false;
    this.pill.addEventListener("click", () => this.toggle());
    this.button.addEventListener("click", () => this.#stick());
    viewer.box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && this.isLive) this.#soon(0); });
    if (isWanted) this.#stick();
    this.#set(isWanted);
  }

  toggle() {
    if (!this.pill) return;
    this.#set(!this.isLive);
    if (this.isLive) this.#stick();
  }

  #set(isLive) {
    this.isLive = isLive;
    this.#tell(isLive ? "live" : "paused");
    clearTimeout(this.timer);
    if (isLive) this.#soon(0);
  }

  #tell(state, seconds = 0) {
    const words = { live: "Live", paused: "Paused", waiting: `Reconnecting ${seconds} s`, ended: "Ended" };
    this.pill.dataset.state = state;
    this.pill.textContent = words[state];
    this.pill.title = state === "live" ? "New lines appear here; click to pause" : "Click to follow";
    this.pill.disabled = state === "ended";
  }

  #soon(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), milliseconds);
  }

  async #ask() {
    if (!this.isLive || !this.viewer.root.isConnected || document.hidden || this.isAsking) return;
    this.isAsking = true;
    const url = new URL(location.href);
    url.hash = "";
    url.searchParams.set("region", "log-after");
    url.searchParams.set("position", this.viewer.position);
    try {
      const answer = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      this.#take(await answer.json());
    } catch {
      // Not the code's business why: the next try may work.
      if (this.isLive) this.#tell("waiting", Math.round(this.wait / 1000));
      this.#soon(this.wait);
      this.wait = Math.min(this.wait * 2, WAIT_MAX);
    } finally {
      this.isAsking = false;
    }
  }

  #take(answer) {
    if (!this.isLive) return; // paused while it was on its way: asked for again when followed again
    this.wait = EVERY;
    const { viewer } = this;
    if (this.isStuck) this.#scrolled(); // the reader may have moved, and the browser not yet told us
    viewer.position = answer.position;
    const added = answer.lines ? append(viewer.rows, answer.html, this.isFirst) : 0;
    this.isFirst = false;
    if (added) {
      viewer.box.hidden = false;
      viewer.root.querySelector(".plet-log-empty")?.remove();
      this.#count(answer.total);
      if (this.isStuck) this.#trim();
      else this.#showUnseen(this.unseen + added);
    }
    if (this.isStuck) this.#toEnd();
    // The log files are written a moment after the store has told of the end.
    this.quiet = answer.open || answer.lines ? 0 : (this.quiet ?? 0) + 1;
    if (this.quiet > 2) {
      this.isLive = false;
      this.#tell("ended");
      return;
    }
    this.#tell("live");
    if (!this.isStuck && viewer.count > ROWS_MAX) this.#set(false);
    else this.#soon(answer.more ? 0 : EVERY);
  }

  #count(total) {
    const lines = [...this.viewer.rows.querySelectorAll(".plet-log-row[id]")];
    const first = parseFragment(`#${lines[0]?.id}`);
    const last = parseFragment(`#${lines.at(-1)?.id}`);
    if (!first || !last) return;
    const most = Math.max(total, last.last);
    this.viewer.root.querySelector("[data-log-range]").textContent =
      `lines ${spaced(first.first)}–${spaced(last.last)} of ${spaced(most)}`;
  }

  #trim() {
    let count = this.viewer.count;
    while (count > ROWS_MAX && this.viewer.rows.firstElementChild) {
      count -= this.viewer.rows.firstElementChild.querySelectorAll(".plet-log-row").length;
      this.viewer.rows.firstElementChild.remove();
    }
  }

  #scrolled() {
    const { box } = this.viewer;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
    if (isAtEnd) {
      this.isStuck = true;
      this.#showUnseen(0);
    } else if (box.scrollTop < this.lastTop) {
      this.isStuck = false;
    }
    this.lastTop = box.scrollTop;
  }

  #stick() {
    this.isStuck = true;
    this.#showUnseen(0);
    this.#toEnd();
    if (this.pill && !this.isLive && this.pill.dataset.state === "paused") this.#set(true);
  }

  #toEnd() {
    const { box } = this.viewer;
    box.scrollTop = box.scrollHeight;
    this.lastTop = box.scrollTop;
  }

  #showUnseen(count) {
    this.unseen = count;
    this.button.hidden = count === 0;
    this.button.textContent = `↓ ${spaced(count)} new line${count === 1 ? "" : "s"}`;
  }
}

/** Append rows to those shown, each once; returns how many were new. */
function append(target, html, isFirst) {
  const template = document.createElement("template");
  template.innerHTML = html;
  // What the store had told in advance comes from the copy now.
  for (const row of target.querySelectorAll(".plet-log-behind")) row.remove();
  const last = target.querySelectorAll(".plet-log-row");
  const shown = new Set(isFirst ? [...last].slice(-20).map((row) => row.outerHTML) : []);
  let added = 0;
  for (const part of [...template.content.children]) {
    const units = part.tagName === "DETAILS" ? [part] : [...part.children];
    for (const unit of units) {
      const named = unit.tagName === "DETAILS" ? unit.querySelector("summary") : unit;
      const isKnown = named.id ? document.getElementById(named.id) : shown.has(unit.outerHTML);
      if (isKnown) continue;
      place(target, unit);
      added += unit.tagName === "DETAILS" ? unit.querySelectorAll(".plet-log-row").length : 1;
    }
  }
  return added;
}

function place(target, unit) {
  const open = target.lastElementChild;
  const isFold = unit.tagName === "DETAILS";
  if (!isFold && open?.tagName === "DETAILS" && "unended" in open.dataset) {
    blockOf(open).append(unit);
    if (unit.classList.contains("plet-log-endgroup")) delete open.dataset.unended;
    const count = open.querySelectorAll(".plet-log-block .plet-log-row").length;
    open.querySelector(".plet-log-count").textContent = `${spaced(count)} line${count === 1 ? "" : "s"}`;
  } else if (isFold) {
    target.append(unit);
  } else {
    blockOf(target).append(unit);
  }
}

/** Return the last block of rows, or a new one where that is full. */
function blockOf(target) {
  const last = target.lastElementChild;
  if (last?.classList.contains("plet-log-block") && last.childElementCount < BLOCK) return last;
  if (last?.classList.contains("plet-log-block")) last.classList.add("plet-log-full");
  const block = document.createElement("div");
  block.className = "plet-log-block";
  target.append(block);
  return block;
}
