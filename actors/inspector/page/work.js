// Unfinished work: what each piece waits for, and answers to it.

import { act, get } from "./api.js";
import { ago, debounce, duration, fill, glyph, h, moment, number, said } from "./dom.js";
import { lines } from "./memory.js";
import { parse } from "./model.js";

const WAITS = { wait: "waits", step: "runs", sleep: "sleeps", ask: "asks" };

const identity = (work) => `${work.agent}@${work.work}`;

/** In a word what a piece of work does. */
function state(work) {
  if (work.parked) return "parked";
  if (work.waits.some((item) => item.kind === "wait")) return "waits for you";
  return work.waits.length ? WAITS[work.waits[0].kind] ?? "runs" : "runs";
}

export class WorkPage {
  constructor(options) {
    Object.assign(this, { options, work: [], selected: null });
    this.list = h("div", { class: "episode-list", role: "listbox", "aria-label": "Unfinished work", tabindex: "0", onkeydown: (event) => this.#key(event) });
    this.detail = h("article", { class: "episode", tabindex: "0", "aria-label": "Piece of work" });
    this.element = h("section", { class: "work-page" }, h("h1", { class: "unseen" }, "Unfinished work"), h("div", { class: "two" }, this.list, this.detail));
    this.soon = debounce(300, () => this.load());
    this.timer = setInterval(() => this.load(), 5000);
    this.load();
  }

  async load() {
    try {
      const answer = await get("work");
      this.work = answer.work;
      this.#fill();
      this.options.counted?.(answer.work.length);
    } catch (error) {
      this.options.failed(error);
    }
  }

  show(wanted) {
    if (wanted) this.selected = wanted;
    this.#fill();
  }

  update() {
    this.soon();
  }

  #fill() {
    const rows = this.work.map((work) => {
      const word = state(work);
      return h("a", { class: "episode-row", role: "option", href: `#/work/${identity(work)}`, "aria-selected": String(identity(work) === this.selected), tabindex: "-1" }, h("span", {}),
        h("span", { class: "task" }, said(work.message), h("span", { class: "dim" }, " ", work.waits.map((item) => `${WAITS[item.kind] ?? item.kind}${item.kind === "wait" ? " for" : ""}${item.name === item.kind ? "" : ` ${item.name}`}`).join(", "))), h("span", { class: `pill ${word.replaceAll(" ", "-")}` }, word), h("span", { class: "dim mono where" }, said(identity(work))), h("span", { class: "dim" }, ago(Date.parse(work.since))));
    });
    this.list.setAttribute("role", rows.length === 0 ? "group" : "listbox");
    fill(this.list, rows, rows.length === 0 ? h("p", { class: "empty" }, "No work is unfinished: every durable message was handled to its end.") : null);
    const wanted = this.work.find((work) => identity(work) === this.selected) ?? this.work[0];
    if (wanted) this.#select(wanted); else { this.shown = null; fill(this.detail); }
  }

  #select(work) {
    this.selected = identity(work);
    for (const row of this.list.querySelectorAll("[role=option]")) row.setAttribute("aria-selected", String(row.getAttribute("href") === `#/work/${this.selected}`));
    // A form that somebody writes in is not made anew as long as the work is as it was.
    const shown = JSON.stringify(work);
    if (this.shown === shown) return;
    this.shown = shown;
    const pair = (name, ...held) => [h("dt", {}, name), h("dd", {}, held)];
    fill(this.detail, h("h2", {}, said(work.message), work.version > 1 ? h("span", { class: "dim" }, ` version ${work.version}`) : null), h("p", {}, h("span", { class: `pill ${state(work).replaceAll(" ", "-")}` }, state(work))),
      h("dl", { class: "pairs" }, pair("agent", h("a", { href: moment(work.agent, work.work) }, said(work.agent), `@${work.work}`)), pair("since", `${ago(Date.parse(work.since))} ago`), work.tries ? pair("taken up again", number(work.tries)) : null),
      work.parked ? [h("h3", { class: "failed" }, glyph("cross"), " Parked"), h("dl", { class: "pairs" }, Object.entries(work.parked).map(([name, held]) => pair(name, said(held))))] : null,
      h("h3", {}, "Begun, without a result"), work.waits.length ? h("ol", { class: "chain" }, work.waits.map((item) => this.#item(work, item))) : h("p", { class: "dim" }, "Nothing: its handler goes on."),
      this.#actions(work));
  }

  #item(work, item) {
    return h("li", { class: item.kind === "wait" ? "here" : null }, h("b", {}, said(item.name)), ` ${item.kind}`, item.attempts ? h("span", { class: "failed" }, ` ${item.attempts} failed`) : null, " ", h("a", { href: moment(work.agent, item.since) }, `@${item.since}`),
      item.due ? h("span", { class: "dim" }, due(item.due)) : null, item.about === null ? null : lines(parse(item.about), 24), item.kind === "wait" ? this.#form(work, item) : null);
  }

  #form(work, item) {
    if (!this.options.actions) return h("p", { class: "dim" }, "This inspector only reads. Start it with ", h("code", {}, "duramen inspect --allow-actions"), " to answer from here.");
    const problem = h("p", { class: "failed", role: "alert" });
    const text = h("textarea", { rows: "3", "aria-label": `Answer to ${item.name}, as JSON`, spellcheck: "false" });
    text.value = '{"ok": true}';
    const command = `inspector-${crypto.randomUUID()}`; // the same answer, however often it is sent
    const go = h("button", { class: "button main" }, `Answer ${item.name}`);
    return h("form", { class: "answer", onsubmit: async (event) => {
      event.preventDefault();
      let value;
      try { value = JSON.parse(text.value); } catch { problem.textContent = "This is not JSON; a text needs quotes."; return; }
      await this.#do(go, problem, "answer", { agent: work.agent, name: item.name, work: work.work, value, command });
    } }, text, problem, go);
  }

  #actions(work) {
    if (!this.options.actions) return null;
    const problem = h("p", { class: "failed", role: "alert" });
    const button = (label, name) => { const made = h("button", { type: "button", class: "button", onclick: () => this.#do(made, problem, name, { agent: work.agent, work: work.work }) }, label); return made; };
    return h("div", {}, problem, h("div", { class: "ends" }, work.parked ? button("Retry", "retry") : null, button("Cancel this work", "cancel")));
  }

  async #do(button, problem, name, fields) {
    button.disabled = true;
    try {
      const done = await act(name, fields);
      this.options.note(done.done);
      this.shown = null;
      await this.load();
    } catch (error) {
      problem.textContent = error.message;
      button.disabled = false;
    }
  }

  #key(event) {
    const at = this.work.findIndex((work) => identity(work) === this.selected);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.work.length - 1 }[event.key];
    if (to === undefined || !this.work[to]) return;
    event.preventDefault();
    event.stopPropagation();
    history.replaceState(null, "", `#/work/${identity(this.work[to])}`);
    this.#select(this.work[to]);
  }

  close() {
    clearInterval(this.timer);
  }
}

function due(text) {
  const left = Date.parse(text) - Date.now();
  return left > 0 ? ` due in ${duration(left)}` : ` was due ${duration(-left)} ago`;
}
