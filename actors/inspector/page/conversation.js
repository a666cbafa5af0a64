// The conversation that working memory holds at a moment, as a transcript; and the log, an event a row.

import { get } from "./api.js";
import { clock, debounce, glyph, h, moment, number, Rows, said, setBy, size } from "./dom.js";
import { readLong } from "./long_values.js";

const MOST_HELD = 500;
const LEVELS = ["", "lifecycle", "state", "activity", "trace"];

export class Conversation {
  constructor(handlers) {
    this.handlers = handlers;
    this.items = new Map();
    this.elements = new Map();
    this.list = h("ol", { class: "messages" });
    this.earlier = h("button", { type: "button", class: "link earlier", hidden: true, onclick: () => this.#earlier() });
    this.none = h("p", { class: "empty", hidden: true }, "No conversation is in working memory at this moment. The log shows all events.");
    this.reading = h("p", { class: "reading", role: "status" }, "reading …");
    this.element = h("div", { class: "conversation", tabindex: "0", role: "region", "aria-label": "Conversation" }, this.earlier, this.none, this.reading, this.list);
    this.ask = debounce(60, () => this.#fetch());
  }

  /** Show what memory holds at a seq of a log that begins after `base`: at once what is known of it, then exactly. */
  show(agent, seq, base) {
    if (this.agent !== agent) { this.items.clear(); this.elements.clear(); this.list.replaceChildren(); this.exact = undefined; }
    Object.assign(this, { agent, seq, base });
    this.#render();
    if (this.exact !== seq) this.ask();
  }

  async #fetch(before = undefined) {
    const { agent, seq } = this;
    this.abort?.abort();
    this.abort = new AbortController();
    let answer;
    try {
      answer = await get("conversation", { agent, seq, before }, this.abort.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.handlers.failed(error);
      return;
    }
    if (this.agent !== agent || this.seq !== seq) return;
    if (before === undefined) this.#forget(answer);
    for (const message of answer.messages) this.items.set(message.at, message);
    this.exact = seq;
    this.count = answer.count;
    this.path = answer.path;
    this.first = Math.min(...this.items.keys(), answer.count);
    this.#render();
  }

  /** Forget what an answer replaces, what is of another list, and what is before a gap: messages are shown without one. */
  #forget({ first, count, path }) {
    if (String(path) !== String(this.path)) this.items.clear();
    let from = first;
    while (this.items.has(from - 1) && count - from < MOST_HELD) from -= 1;
    for (const at of this.items.keys()) if (at < from || at >= first) this.items.delete(at);
  }

  #earlier() {
    this.#fetch(this.first);
  }

  #render() {
    const wasAtEnd = this.element.scrollTop + this.element.clientHeight > this.element.scrollHeight - 60;
    const shown = [...this.items.values()].filter((item) => item.seq <= this.seq).sort((a, b) => a.at - b.at);
    const kept = new Set();
    let node = this.list.firstChild;
    for (const item of shown) {
      const key = `${item.at} ${item.seq}`;
      kept.add(key);
      let element = this.elements.get(key);
      if (element === undefined || element.item !== item) {
        const made = this.#element(item);
        made.item = item;
        if (element) { if (node === element) node = element.nextSibling; element.remove(); }
        element = made;
        this.elements.set(key, element);
      }
      if (element !== node) this.list.insertBefore(element, node); else node = node.nextSibling;
    }
    for (const [key, element] of this.elements) if (!kept.has(key)) { element.remove(); this.elements.delete(key); }
    this.none.hidden = shown.length > 0 || this.exact !== this.seq;
    this.reading.hidden = this.exact !== undefined;
    const first = shown[0]?.at ?? 0;
    this.earlier.hidden = first === 0 || shown.length === 0;
    this.earlier.textContent = `${number(first)} earlier messages`;
    this.handlers.count(this.exact === this.seq ? this.count : shown.length + first, this.exact === this.seq);
    const last = this.list.lastChild;
    if (last && (wasAtEnd || this.lastShown !== shown.length)) last.scrollIntoView({ block: "nearest" });
    this.lastShown = shown.length;
  }

  #element(item) {
    const at = h("a", { class: "setter", href: moment(this.agent, item.seq) }, setBy(item.seq, this.base));
    const role = h("span", { class: "role" }, said(item.role));
    if (item.role === "tool" || item.role === "function") return h("li", { class: "message tool" }, role, this.#result(item), at);
    return h("li", { class: `message ${item.role === "user" ? "user" : ""}` }, role,
      h("div", { class: "says" }, item.text || item.beside !== undefined ? this.#text(item) : null, (item.calls ?? []).map((call) => h("div", { class: "call" }, glyph("arrow"), h("span", {}, said(call.tool, "tool-name"), " ", said(argumentsOf(call.arguments), "mid"))))), at);
  }

  /** What is not shown of a long text: a way to read it all. */
  #rest(item) {
    const isBeside = item.beside !== undefined;
    if (!isBeside && item.length <= item.text.length) return null;
    const much = isBeside ? `${size(item.beside)} bytes` : `${number(item.length)} characters`;
    if (!this.path || !(isBeside || item.cut)) return h("p", { class: "dim" }, `${much} in all; working memory has the rest`);
    const path = JSON.stringify([...this.path, String(item.at), "content"]);
    return h("p", {}, h("button", { type: "button", class: "link", onclick: () => readLong(item.role, { agent: this.agent, seq: this.seq, of: "memory", path, kind: "text" }) }, `show all ${much}`));
  }

  #text(item) {
    const long = item.role === "system" && item.text.length > 400;
    const body = h("div", { class: `prose${long ? " short" : ""}` }, bold(item.text));
    const rest = this.#rest(item);
    if (!long) return [body, rest];
    const more = h("button", { type: "button", class: "link", onclick: () => { body.classList.remove("short"); more.remove(); } }, `show all ${number(item.length)} characters`);
    return [body, more, rest];
  }

  #result(item) {
    if (item.failed) return h("div", { class: "call failed" }, glyph("cross"), h("span", {}, said(item.text)));
    const body = h("div", { hidden: true }, item.text ? h("pre", { class: "result" }, said(item.text)) : null, this.#rest(item));
    const fold = h("button", { type: "button", class: "call result-line", "aria-expanded": "false", onclick: () => { body.hidden = !body.hidden; fold.setAttribute("aria-expanded", String(!body.hidden)); fold.firstChild.replaceWith(glyph(body.hidden ? "closed" : "open")); } },
      glyph("closed"), h("span", { class: "clip" }, item.text ? said(item.text.slice(0, 200)) : h("span", { class: "dim" }, item.beside === undefined ? "(empty)" : "a text beside the log")), h("span", { class: "size" }, item.beside === undefined ? `${size(item.length)} chars` : `${size(item.beside)} bytes`));
    return h("div", {}, fold, body);
  }
}

function bold(text) {
  return text.split(/\*\*([^*\n]+)\*\*/).map((part, index) => (part === "" ? null : index % 2 ? h("b", {}, said(part)) : said(part)));
}

/** The arguments of a call: without the braces and quotes of JSON, where they are JSON. */
function argumentsOf(text) {
  try {
    const held = JSON.parse(text);
    if (held === null || typeof held !== "object" || Array.isArray(held)) return text;
    return Object.entries(held).map(([key, value]) => `${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  } catch {
    return text;
  }
}

export class Log {
  constructor(handlers) {
    this.handlers = handlers;
    this.rows = new Rows(26, (index) => this.#row(index), { class: "rows log", tabindex: "0", role: "region", "aria-label": "Log" });
    this.rows.onsight = (first, last) => this.#load(first, last);
    this.element = this.rows.element;
  }

  show(model, seq) {
    const total = model.head - model.base;
    const moved = this.model !== model || this.seq !== seq;
    Object.assign(this, { model, seq });
    this.rows.set(total);
    if (moved) this.rows.show(Math.max(seq - model.base - 1, 0));
  }

  async #load(first, last) {
    if (!this.model || !this.element.isConnected || last < first) return;
    const { model } = this;
    const seqs = [first, last].map((index) => index + model.base + 1).filter((seq) => model.event(seq) === undefined);
    if (seqs.length === 0) return;
    try {
      await Promise.all(seqs.map((seq) => model.load(seq)));
    } catch (error) {
      this.handlers.failed(error);
      return;
    }
    if (this.model === model) this.rows.set(this.rows.total);
  }

  #row(index) {
    const seq = index + this.model.base + 1;
    const event = this.model.event(seq);
    if (event === undefined) return h("div", { class: "event-row waiting" }, h("span", { class: "setter" }, `@${seq}`));
    const classes = `event-row ${LEVELS[event.level]}${seq === this.seq ? " here" : ""}${seq > this.seq ? " later" : ""}`;
    return h("a", { class: classes, href: moment(this.model.agent, seq), "aria-current": seq === this.seq ? "true" : null }, h("span", { class: "setter" }, `@${seq}`), h("span", { class: "time" }, clock(event.time, true)), h("span", { class: "clip" }, h("span", {}, event.title), event.detail ? h("span", { class: "dim" }, " ", said(event.detail)) : null));
  }
}
