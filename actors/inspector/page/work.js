// Unfinished work: what waits for somebody first; each piece with what its handler has done, and a form to answer.

import { act, get } from "./api.js";
import { ago, back, clock, day, debounce, duration, fill, glyph, h, moment, number, place, said } from "./dom.js";
import { lines, value } from "./memory.js";
import { isContainer, parse } from "./model.js";

const DOES = { wait: "waits for", step: "runs", sleep: "sleeps", ask: "asks" };
const STATES = { "waits for you": "clock", asks: "clock", parked: "failed", sleeps: "paused", runs: "running" };
const ENDS = { done: "check", failed: "cross", "given up": "terminated" };
const WAITING = { wait: "clock", sleep: "paused", ask: "clock", step: "running" };
const DAY = 20 * 3_600_000; // ms; with less to go, the day is not in doubt
const SHARE = 5; // what has been asked for is asked for again after at least so many times as long as it took

const identity = (work) => `${work.agent}@${work.work}`;
const pieces = (count) => (count === 1 ? "1 piece" : `${number(count)} pieces`);
const pair = (name, ...held) => [h("dt", {}, name), h("dd", {}, held)];

export class WorkPage {
  constructor(options) {
    Object.assign(this, { options, work: [], selected: null, freeAt: 0 });
    this.list = h("div", { class: "episode-list", role: "group", "aria-label": "Unfinished work", tabindex: "0", onkeydown: (event) => this.#key(event) }, h("p", { class: "reading" }, "reading …"));
    this.detail = h("article", { class: "episode", tabindex: "0", "aria-label": "Piece of work" });
    this.total = h("span", { class: "dim" });
    this.two = h("div", { class: "two" }, this.list, this.detail);
    this.element = h("section", { class: "work-page" }, h("header", { class: "page-head" }, h("h1", {}, "Unfinished work"), this.total, h("span", { class: "grow" }), h("span", { class: "dim" }, "what waits for you first")), this.two);
    this.soon = debounce(300, () => this.load());
    this.timer = setInterval(() => this.load(), 5000);
    this.load();
  }

  async load() {
    if (this.closed) return;
    if (performance.now() < this.freeAt) { this.soon(); return; }
    const began = performance.now();
    this.freeAt = Infinity;
    try {
      const answer = await get("work");
      Object.assign(this, { work: answer.work, answer });
      this.#fill();
      this.options.counted?.(answer);
    } catch (error) {
      this.options.failed(error);
    } finally {
      this.freeAt = performance.now() + SHARE * (performance.now() - began);
    }
  }

  show(wanted) {
    if (wanted) this.selected = wanted;
    this.two.classList.toggle("opened", Boolean(wanted));
    this.#fill();
  }

  update() {
    this.soon();
  }

  renew() {
    this.soon();
  }

  #fill() {
    if (!this.answer) return;
    const { total, more, oldest } = this.answer;
    this.total.textContent = total ? `${number(total)}${more ? "+" : ""} ${total === 1 && !more ? "piece" : "pieces"}, the oldest ${more ? "of these " : ""}${ago(Date.parse(oldest))}${total > this.work.length ? `; ${number(this.work.length)} are shown` : ""}` : "";
    const rows = this.work.map((work) => h("a", { class: "work-row", role: "option", href: `#/work/${identity(work)}`, "aria-selected": String(identity(work) === this.selected), tabindex: "-1" }, glyph(STATES[work.state] ?? "running"), h("span", { class: "clip who" }, said(work.agent)),
      h("span", { class: "clip" }, h("span", { class: "mid" }, said(work.message_type)), " ", work.parked ? h("span", { class: "failed" }, "parked: ", said(String(work.parked.kind))) : doing(work)), h("span", { class: "dim tries" }, tries(work)), h("span", { class: "dim age" }, ago(Date.parse(work.since)))));
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
    const due = work.waits.map((item) => item.due).filter(Boolean).sort()[0];
    this.steps = h("ol", { class: "steps" }, h("li", { class: "dim" }, "…"));
    this.about = h("div", {});
    fill(this.detail, back("#/work", "all work"), h("h2", {}, glyph(STATES[work.state] ?? "running"), said(work.message_type), work.version > 1 ? h("span", { class: "dim" }, `version ${work.version}`) : null, h("span", { class: `pill ${work.state.replaceAll(" ", "-")}` }, work.state)),
      h("dl", { class: "pairs" }, pair("agent", h("a", { href: moment(work.agent, work.work) }, said(work.agent), `@${work.work}`)), pair("since", ago(Date.parse(work.since))), due ? pair("due", until(due)) : null, work.tries ? pair("taken up", `again, ${number(work.tries)}×`) : null, pair("keeps", `events from ${work.work} on`)),
      work.parked ? parked(work.parked) : null, this.about,
      h("h3", {}, "Steps"), this.steps, work.waits.filter((item) => item.kind === "wait").map((item) => this.#answer(work, item)), this.#actions(work));
    this.#read(work);
  }

  /** Read what the handler has done, and show it, if the piece is still the one that is shown. */
  async #read(work) {
    const { shown } = this;
    try {
      const record = await get("record", { agent: work.agent, work: work.work });
      if (this.shown !== shown) return;
      const fields = parse(record.data);
      fill(this.about, fields.n > 0 ? [h("h3", {}, "Message"), about(fields)] : null);
      const before = record.from > work.work + 1 ? `What it did before @${record.from} is not shown.` : record.left_out ? `${number(record.left_out)} earlier ones are not shown.` : null;
      const rows = [...record.steps.map((each) => [each.seq, step(record.agent, each)]), ...record.notes.map((each) => [each.seq, noted(record.agent, each)])].sort((one, other) => one[0] - other[0]);
      fill(this.steps, before ? h("li", { class: "dim" }, before) : null, rows.map(([, row]) => row), rows.length ? null : h("li", { class: "dim" }, "Its handler has begun nothing yet."));
    } catch (error) {
      if (this.shown === shown) fill(this.steps, h("li", { class: "failed" }, error.message));
    }
  }

  #answer(work, item) {
    const held = item.about === null ? null : about(parse(item.about));
    const title = h("h3", {}, "Answer “", said(item.name), "” ", h("a", { class: "dim mono", href: moment(work.agent, item.seq) }, `@${item.seq}`));
    if (!this.options.actions) return [title, held, h("p", { class: "dim" }, this.options.recorded ? "It waited for this when it was recorded." : ["This inspector only reads. Start it with ", h("code", {}, "duramen inspect --allow-actions"), " to answer from here."])];
    return [title, held, this.#form(work, item, held !== null)];
  }

  #form(work, item, isAbout) {
    const problem = h("p", { class: "failed", role: "alert" });
    const text = h("textarea", { rows: "3", "aria-label": `Answer to ${item.name}`, spellcheck: "false", hidden: true });
    const go = h("button", { class: "button main", disabled: true }, "Answer");
    const command = `inspector-${crypto.randomUUID()}`; // the same answer, however often it is sent
    let kind = null;
    const choices = [["Yes", true], ["No", false], ["Text"], ["JSON"]].map(([label, sends]) => {
      const input = h("input", { type: "radio", name: `answer-${item.seq}`, value: label, onchange: () => {
        kind = label;
        go.disabled = false;
        text.hidden = sends !== undefined;
        text.placeholder = label === "JSON" ? '{"ok": true}' : "";
        fill(go, sends === undefined ? "Answer" : `Answer ${label.toLowerCase()}`);
        if (!text.hidden) text.focus();
      } });
      return h("label", {}, input, h("span", {}, label));
    });
    return h("form", { class: "answer", onsubmit: async (event) => {
      event.preventDefault();
      let answer = kind === "Yes" ? true : kind === "No" ? false : text.value;
      if (kind === "JSON") try { answer = JSON.parse(text.value); } catch { problem.textContent = "This is not JSON: names and texts stand in double quotes."; return; }
      await this.#do(go, problem, "answer", { agent: work.agent, name: item.name, work: work.work, wait: item.seq, value: answer, command });
    } }, h("fieldset", { class: "choice" }, h("legend", { class: "unseen" }, `Answer to ${item.name}`), choices), text, problem, go,
    h("p", { class: "dim" }, isAbout ? "The answer is to what is shown here. If the work waits for something else by then, it is refused." : "If the work does not wait here any more, the answer is refused."));
  }

  #actions(work) {
    if (!this.options.actions) return null;
    const problem = h("p", { class: "failed", role: "alert" });
    const button = (label, name) => { const made = h("button", { type: "button", class: "button", onclick: () => this.#do(made, problem, name, { agent: work.agent, work: work.work }) }, label); return made; };
    return h("div", { class: "work-actions" }, problem, h("div", { class: "ends" }, work.parked ? button("Retry", "retry") : null, button("Cancel this work", "cancel")));
  }

  async #do(button, problem, name, fields) {
    button.disabled = true;
    try {
      const done = await act(name, fields);
      this.options.note(done.done);
      this.shown = null;
      this.freeAt = 0;
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
    this.list.querySelectorAll("[role=option]")[to].scrollIntoView({ block: "nearest" });
  }

  close() {
    clearInterval(this.timer);
    this.closed = true;
  }
}

/** What a piece of work does now, in a few words. */
function doing(work) {
  const words = work.waits.map((item) => `${DOES[item.kind] ?? item.kind}${item.name === item.kind ? "" : ` ${item.name}`}${item.kind === "sleep" && item.due ? ` until ${atTime(Date.parse(item.due))}` : ""}`);
  return words.join(", ") || "runs";
}

/** A time in UTC; with its day, if that is far. */
const atTime = (time) => `${Math.abs(time - Date.now()) > DAY ? `${day(time * 1000)} ` : ""}${clock(time * 1000)} UTC`;

function tries(work) {
  const failed = Math.max(0, ...work.waits.map((item) => item.attempts));
  return failed ? `attempt ${number(failed + 1)}` : work.tries ? `taken up again ${number(work.tries)}×` : null;
}

function until(time) {
  const left = Date.parse(time) - Date.now();
  return left > 0 ? `in ${duration(left)}` : `${duration(-left)} ago`;
}

/** Why work is parked; where its handler has changed, both sides. */
function parked({ kind, text, expected, actual, ...more }) {
  const differs = expected !== undefined && actual !== undefined;
  return [h("h3", { class: "failed" }, differs ? "The code no longer does what is recorded" : ["Parked: ", said(String(kind))]), differs ? h("div", { class: "sides" }, [["recorded", expected], ["this code", actual]].map(([name, held]) => h("div", {}, h("span", { class: "dim" }, name), h("pre", { class: "code", tabindex: "0" }, said(String(held)))))) : null,
    h("p", { class: "mid" }, said(String(text ?? ""))), Object.keys(more).length ? h("dl", { class: "pairs" }, Object.entries(more).map(([name, held]) => pair(name, said(String(held))))) : null];
}

/** Something that the handler has begun: its name, its result in a line, and how long it took or takes. */
function step(agent, each) {
  const shape = each.how === null ? WAITING[each.kind] ?? "running" : ENDS[each.how];
  const failed = each.error ? `${each.error.kind}${each.error.text ? `: ${each.error.text}` : ""}` : null;
  const attempt = each.attempts + 1; // as many have failed before
  const word = { step: "", wait: "wait", sleep: "sleep", ask: "asks" }[each.kind];
  const since = each.ended ?? Date.now() * 1000;
  return h("li", {}, glyph(shape), h("span", { class: "unseen" }, each.how ?? "not ended"),
    h("a", { class: "mono name", href: moment(agent, each.end ?? each.seq) }, said(each.name)), h("span", { class: "dim clip" }, each.name === each.kind ? null : word, attempt > 1 ? ` attempt ${number(attempt)}` : null, each.how === null && each.due ? ` due ${until(each.due)}` : null, each.how === "given up" ? " given up" : null, each.how === "done" && each.kind !== "sleep" ? [" ", value(parse(each.result))] : null, each.kind === "ask" ? [" ", h("a", { class: "link", href: place(each.name) }, "its agent")] : null),
    h("span", { class: "dim age" }, duration(Math.max(0, since - each.time) / 1000)),
    each.failures.map((failure) => h("p", { class: "failed" }, h("a", { class: "mono", href: moment(agent, failure.seq) }, `@${failure.seq}`), " ", said(failure.kind), failure.text ? [": ", said(failure.text)] : null)), failed ? h("p", { class: "failed" }, said(failed)) : null);
}

function noted(agent, { what, seq, time, text }) {
  return h("li", { class: "noted" }, h("span", {}), h("span", { class: "dim" }, what), h("span", { class: "dim clip" }, said(text)), h("a", { class: "dim mono age", href: moment(agent, seq), title: clock(time) }, `@${seq}`));
}

/** What a wait is about, or a message has: a flat dict as a list of its values, all else as lines. */
function about(node) {
  const flat = node?.$ === "dict" && node.kids !== null && node.kids.size === node.n && node.n <= 12 && [...node.kids.values()].every(({ v }) => !isContainer(v));
  return flat ? h("dl", { class: "pairs code" }, [...node.kids].map(([key, { v }]) => [h("dt", {}, said(key)), h("dd", {}, v?.$ === "text" || typeof v === "string" ? said(typeof v === "string" ? v : v.v) : value(v))])) : lines(node, 24);
}
