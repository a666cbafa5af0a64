// Elements, and texts that come from agents: always as text nodes, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `on…` are listeners, `style` an object, null and false leave an attribute out. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") element.className = value;
    else if (key === "style") for (const [property, set] of Object.entries(value)) element.style.setProperty(property, set);
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** Put children in the place of those that are there; null and false are none. */
export function fill(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

const SHAPES = {
  rings: '<circle cx="6" cy="6" r="5.3" stroke="currentColor" stroke-width="0.8"/><circle cx="6" cy="6" r="3.2" stroke="currentColor" stroke-width="1"/><circle cx="6" cy="6" r="1.2" fill="currentColor"/>',
  running: '<circle cx="6" cy="6" r="4" fill="currentColor"/>',
  paused: '<path d="M4 2.5v7M8 2.5v7" stroke="currentColor" stroke-width="2"/>',
  terminated: '<circle cx="6" cy="6" r="3.4" stroke="currentColor" stroke-width="1.5"/>',
  failed: '<circle cx="6" cy="6" r="5" fill="currentColor"/><path class="cut" d="M4 4l4 4M8 4l-4 4" stroke-width="1.4"/>',
  damaged: '<path d="M6 1.5L11 10.5H1z" stroke="currentColor" stroke-width="1.3"/><path d="M6 5v2.5M6 8.6v.6" stroke="currentColor" stroke-width="1.2"/>',
  open: '<path d="M2.5 4.5L6 8l3.5-3.5z" fill="currentColor"/>',
  closed: '<path d="M4.5 2.5L8 6l-3.5 3.5z" fill="currentColor"/>',
  search: '<circle cx="5" cy="5" r="3.5" stroke="currentColor" stroke-width="1.3"/><path d="M7.7 7.7L11 11" stroke="currentColor" stroke-width="1.3"/>',
  first: '<path d="M2.5 2v8M9.5 2.5L5.5 6l4 3.5" stroke="currentColor" stroke-width="1.5"/>',
  back: '<path d="M7.8 2.5L4.2 6l3.6 3.5" stroke="currentColor" stroke-width="1.5"/>',
  play: '<path d="M3.5 2v8l6.5-4z" fill="currentColor"/>',
  stop: '<path d="M3.5 2.5v7M8.5 2.5v7" stroke="currentColor" stroke-width="2"/>',
  next: '<path d="M4.2 2.5L7.8 6 4.2 9.5" stroke="currentColor" stroke-width="1.5"/>',
  last: '<path d="M9.5 2v8M2.5 2.5l4 3.5-4 3.5" stroke="currentColor" stroke-width="1.5"/>',
  theme: '<circle cx="6" cy="6" r="4.5" stroke="currentColor" stroke-width="1.2"/><path d="M6 1.5a4.5 4.5 0 010 9z" fill="currentColor"/>',
  cross: '<path d="M3 3l6 6M9 3l-6 6" stroke="currentColor" stroke-width="2"/>',
  arrow: '<path d="M1.5 6h8M6.5 3l3 3-3 3" stroke="currentColor" stroke-width="1.3"/>',
  check: '<path d="M2 6.5L5 9.5l5-7" stroke="currentColor" stroke-width="1.6"/>',
  clock: '<circle cx="6" cy="6" r="4.6" stroke="currentColor" stroke-width="1.4"/><path d="M6 3.2V6l2 1.4" stroke="currentColor" stroke-width="1.3"/>',
  partial: '<circle cx="6" cy="6" r="4" stroke="currentColor" stroke-width="1.4"/><path d="M6 2a4 4 0 010 8z" fill="currentColor"/>',
};
const PARTS = /<(\w+)([^>]*?)\/>/g;
const ATTRIBUTE = /([\w-]+)="([^"]*)"/g;

/** A drawing of twelve by twelve, hidden from screen readers: a word always stands beside it. */
export function glyph(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 12 12", fill: "none", "aria-hidden": "true" })) svg.setAttribute(key, value);
  svg.setAttribute("class", `glyph ${name}`);
  for (const [, kind, attributes] of SHAPES[name].matchAll(PARTS)) {
    const part = document.createElementNS(SVG, kind);
    for (const [, key, value] of attributes.matchAll(ATTRIBUTE)) part.setAttribute(key, value);
    svg.append(part);
  }
  return svg;
}

// Control characters, and those that turn the direction of a text or hide in it.
const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;
const NAMES = { 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0x200e: "LRM", 0x200f: "RLM", 0x200b: "ZWSP", 0xfeff: "BOM", 0x00: "NUL", 0x1b: "ESC", 0x0d: "CR" };

/** A text of an agent: in its own direction, with odd characters shown by name and not obeyed. */
export function said(text, ...classes) {
  const held = h("bdi", { dir: "auto", class: classes.join(" ") || null });
  let from = 0;
  for (const found of text.matchAll(ODD)) {
    const code = found[0].codePointAt(0);
    held.append(text.slice(from, found.index), h("span", { class: "odd" }, NAMES[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`));
    from = found.index + found[0].length;
  }
  held.append(text.slice(from));
  return held;
}

export const number = (value) => value.toLocaleString("en-US");

export function size(bytes) {
  if (bytes < 1000) return `${bytes}`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(bytes < 10_000 ? 1 : 0)} k`;
  return `${(bytes / 1_000_000).toFixed(1)} M`;
}

export function ago(milliseconds) {
  const seconds = Math.max(0, (Date.now() - milliseconds) / 1000);
  return seconds < 1 ? "now" : duration(seconds * 1000);
}

export function duration(milliseconds) {
  if (milliseconds < 1) return `${Math.round(milliseconds * 1000)} µs`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1).replace(/\.0$/, "") : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** The time of day of a moment in microseconds, in UTC, to milliseconds where asked. */
export function clock(microseconds, exact = false) {
  const text = new Date(microseconds / 1000).toISOString();
  return exact ? text.slice(11, 23) : text.slice(11, 19);
}

export const day = (microseconds) => new Date(microseconds / 1000).toISOString().slice(0, 10);

export function status(word, shape = word) {
  const known = ["running", "paused", "failed", "damaged", "partial"].includes(shape) ? shape : "terminated";
  return h("span", { class: `status ${known}` }, glyph(known), h("span", { class: "word" }, word));
}

export const moment = (agent, seq) => `#/agent/${agent.split("/").map(encodeURIComponent).join("/")}@${seq}`;

/** The seq that set a value; of what a fork or a trimmed log begins with, after `base`, only the latest it can be. */
export const setBy = (seq, base) => `${seq <= base ? "≤" : ""}@${seq}`;
export const place = (agent) => `#/agent/${agent.split("/").map(encodeURIComponent).join("/")}`;

/** The way back from a piece to its list, where only one of them has room. */
export const back = (href, words) => h("a", { class: "link to-list", href }, `← ${words}`);

let waiting = 0;
/** Tell a screen reader, a little late, so that a run of steps is told once. */
export function tell(sentence) {
  clearTimeout(waiting);
  waiting = setTimeout(() => { document.getElementById("polite").textContent = sentence; }, 250);
}

/** A dialog over the page; gives the focus back. */
export function dialog(title, ...children) {
  const box = h("dialog", { "aria-label": title }, h("h2", {}, title), children,
    h("div", { class: "ends" }, h("button", { type: "button", class: "button", onclick: () => box.close() }, "Close")));
  const before = document.activeElement;
  box.addEventListener("close", () => { box.remove(); before?.focus?.(); });
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  document.body.append(box);
  box.showModal();
  return box;
}

export function debounce(milliseconds, call) {
  let timer = 0;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => call(...given), milliseconds); };
}

/** Rows of one height, of which only those in sight are in the document. `draw(index)` makes one, null where none is. */
export class Rows {
  constructor(height, draw, attributes = {}) {
    Object.assign(this, { height, draw, total: 0, held: new Map() });
    this.space = h("div", { class: "space", role: "presentation" });
    this.element = h("div", { class: "rows", ...attributes, onscroll: () => this.#plan() }, this.space);
    this.observer = new ResizeObserver(() => this.#plan());
    this.observer.observe(this.element);
  }

  /** How many rows there are; all in sight are made anew, unless `keep`. */
  set(total, keep = false) {
    this.total = total;
    this.space.style.setProperty("height", `${total * this.height}px`);
    if (!keep) for (const [index, element] of this.held) { element.remove(); this.held.delete(index); }
    this.paint();
  }

  /** First and last index in sight, with some around. */
  sight() {
    const first = Math.floor(this.element.scrollTop / this.height) - 4;
    const last = Math.ceil((this.element.scrollTop + this.element.clientHeight) / this.height) + 4;
    return [Math.max(first, 0), Math.min(last, this.total - 1)];
  }

  #plan() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.paint(); });
  }

  paint() {
    const [first, last] = this.sight();
    for (const [index, element] of this.held) if (index < first || index > last) { element.remove(); this.held.delete(index); }
    for (let index = first; index <= last; index += 1) {
      if (this.held.has(index)) continue;
      const element = this.draw(index);
      if (element === null) continue;
      element.style.setProperty("top", `${index * this.height}px`);
      this.held.set(index, element);
      this.space.append(element);
    }
    this.onsight?.(first, last);
  }

  show(index) {
    const top = index * this.height;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop || top + this.height > scrollTop + clientHeight) this.element.scrollTop = top - clientHeight / 2 + this.height;
    this.paint();
  }
}
