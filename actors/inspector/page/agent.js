// One agent: head, conversation or log, working memory, the event, the timeline. All of them show one moment.

import { act, get } from "./api.js";
import { ago, clock, day, debounce, dialog, duration, fill, glyph, h, moment, number, place, said, size, status, tell } from "./dom.js";
import { Conversation, Log } from "./conversation.js";
import { isCut, kindOf, readLong } from "./long_values.js";
import { lines, MemoryTree, value } from "./memory.js";
import { AgentModel, loadChildren, lookup, parse } from "./model.js";
import { Timeline, transport } from "./timeline.js";
import { DiffView } from "./places.js";

const SPEEDS = [1, 4, 16];
const LONGEST_PAUSE = 1000;
const MOST_VALUES = 40;
const HEAD_EVERY = 5000; // ms; what no message tells: how long ago it changed, and that it is gone or damaged

export class AgentPage {
  constructor(path, options) {
    const failed = (error) => {
      if (this.head && error.kind === "AgentNotFound") this.headSoon(); else if (!this.gone) options.failed(error);
    };
    Object.assign(this, { path, options: { ...options, failed }, seq: null, following: true, byTime: true, speed: 1, range: null, zoomed: null, left: "conversation", markA: null });
    this.model = new AgentModel(path);
    this.conversation = new Conversation({ failed, count: (count, isExact) => this.#counted(count, isExact) });
    this.log = new Log({ failed });
    this.memory = new MemoryTree({ failed, blame: (row, element) => this.#blame(row, element), look: (row, element) => this.#look(row, element), trace: (row) => this.#trace(row) });
    this.timeline = new Timeline({ go: (seq) => this.go(seq), rest: () => this.#settle(), range: (from, to) => this.#zoom(from, to) });
    this.transport = transport({
      first: () => this.go(this.model.base + 1), last: () => this.go(this.model.head), back: () => this.step(-1), next: () => this.step(1), play: () => this.play(),
      speed: () => { this.speed = SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length]; this.#controls(); }, axis: () => this.axis(),
      in: () => this.timeline.zoom(1), out: () => this.timeline.zoom(-1), follow: () => this.follow(),
    });
    this.settleSoon = debounce(120, () => this.#settle());
    this.headSoon = debounce(250, () => this.#readHead().catch(failed));
    this.timer = setInterval(() => { if (!document.hidden) this.headSoon(); }, HEAD_EVERY);
    this.timelineSoon = debounce(300, () => this.#readTimeline());
    this.#build();
    this.opening = this.#open();
  }

  #counted(count, isExact) {
    this.counted.textContent = isExact || count > 0 ? `${number(count)} message${count === 1 ? "" : "s"}` : "";
    // An agent without a conversation is shown by its log, unless somebody has chosen.
    if (this.hasCounted || !isExact || (count === 0 && this.seq !== this.model.head)) return;
    this.hasCounted = true;
    if (count === 0 && this.panes.dataset.tab === "conversation") this.show("log");
  }

  #build() {
    this.title = h("h1", {}, this.path.split("/").slice(0, -1).map((part) => [h("span", { class: "dim" }, said(part), " / ")]), said(this.path.split("/").at(-1)));
    this.word = h("span", { class: "head-status" });
    this.facts = h("p", { class: "facts", tabindex: "0", role: "group", "aria-label": "Facts" });
    this.buttons = h("span", { class: "actions" });
    this.tabs = ["conversation", "log", "memory", "event"].map((name) => h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-selected": "false", onclick: () => this.show(name) }, name[0].toUpperCase() + name.slice(1)));
    this.counted = h("span", { class: "dim count-of" });
    this.changed = h("span", { class: "changed" });
    this.openAll = h("button", { type: "button", class: "tool text", onclick: () => { if (this.openAll.textContent === "Open all") { this.memory.openAll(); this.openAll.textContent = "Close all"; } else { this.memory.closeAll(); this.openAll.textContent = "Open all"; } } }, "Open all");
    this.eventPane = h("div", { class: "event", tabindex: "0", role: "region", "aria-label": "Event" });
    this.eventSeq = h("span", { class: "mono dim" });
    this.panes = h("div", { class: "panes", "data-tab": "conversation", "data-left": "conversation" },
      h("section", { class: "pane left" }, h("header", {}, h("span", { class: "tabs", role: "tablist", "aria-label": "Left" }, this.tabs.slice(0, 2)), this.counted), this.conversation.element, this.log.element),
      h("section", { class: "pane middle" }, h("header", {}, h("h2", {}, "Working memory"), this.changed, h("span", { class: "grow" }), this.openAll), this.memory.element),
      h("section", { class: "pane right" }, h("header", {}, h("h2", {}, "Event"), this.eventSeq), this.eventPane));
    this.diffPane = h("div", { class: "diff-pane", hidden: true });
    this.phoneTabs = h("div", { class: "phone-tabs", role: "tablist", "aria-label": "Panes" }, ["conversation", "log", "memory", "event"].map((name) => h("button", { type: "button", role: "tab", "data-tab": name, onclick: () => this.show(name) }, name[0].toUpperCase() + name.slice(1))));
    this.element = h("section", { class: "agent-page loading" },
      h("header", { class: "agent-head" }, h("div", { class: "line" }, this.title, this.word, h("span", { class: "grow" }), this.buttons), this.facts),
      this.phoneTabs, this.panes, this.diffPane,
      h("section", { class: "timeline", "aria-label": "Timeline" }, this.transport.element, this.timeline.element));
    this.show("conversation");
  }

  async #open() {
    try {
      await this.#readHead();
      this.seq = Math.min(Math.max(this.seq ?? this.model.head, Math.min(this.model.base + 1, this.model.head)), this.model.head);
      await Promise.all([this.#readTimeline(), this.model.load(this.seq).catch((error) => { if (error.kind !== "CorruptEvent") throw error; })]);
      await this.model.load(this.seq);
      this.#paint();
      this.model.prefetch(this.seq);
    } catch (error) {
      if (error.kind !== "AgentNotFound") this.options.failed(error);
      else fill(this.element, h("div", { class: "empty" }, h("h1", {}, "There is no agent ", said(this.path), "."), h("p", {}, h("a", { href: "#/agents", class: "link" }, "All agents"))));
    }
  }

  async #readHead() {
    if (this.closed || this.gone) return;
    let head = null;
    try {
      head = await get("head", { agent: this.path });
    } catch (error) {
      if (error.kind !== "AgentNotFound" || !this.head) throw error;
      this.#erased();
      return;
    }
    this.head = head;
    this.model.head = head.damage ? head.seq : Math.max(this.model.head, head.seq);
    this.model.isDamaged ||= Boolean(head.damage);
    if (head.damage && !this.damaged) this.#warn(head.damage);
    this.model.base = head.base;
    this.#header();
  }

  /** Say which event is damaged. What is before it is whole, and all that is shown. */
  #warn({ seq, message }) {
    this.damaged = h("p", { class: "banner bad", role: "status" }, h("span", {}, h("b", {}, `Event ${number(seq)} is damaged. `), said(message), `. Up to ${number(seq - 1)} everything is whole and can be looked at; nothing after it is shown.`), h("span", { class: "grow" }), h("a", { class: "button", href: "#/verify" }, "Verify all"));
    this.element.prepend(this.damaged);
  }

  /** Say that the agent is gone. What was read of it stays until somebody leaves. */
  #erased() {
    this.gone = true;
    clearInterval(this.timer);
    this.element.prepend(h("p", { class: "banner bad", role: "status" }, "This agent has been erased. What this page had read of it is still shown; the rest is gone."));
    this.#header();
  }

  /** Ask again for what may have failed while the server did not answer. */
  renew() {
    if (this.gone) return;
    if (!this.painted) { this.opening = this.#open(); return; }
    this.headSoon();
    this.timelineSoon();
    this.go(this.seq, false);
  }

  async #readTimeline() {
    if (this.closed || this.gone) return;
    const asked = { agent: this.path, axis: this.byTime ? "time" : "seq", ...(this.zoomed ? { from: this.zoomed[0], to: this.zoomed[1] } : {}) };
    const data = await get("timeline", asked).catch((error) => { this.options.failed(error); return null; });
    if (data === null || this.closed) return;
    const was = this.complete;
    this.complete = data.complete;
    this.timeline.show(data);
    this.#playhead();
    if (!data.complete) this.timelineSoon();
    else if (was === false) { this.model.dropUntraced(); this.go(this.seq); }
    if (data.failed && !this.damaged) { // a later snapshot hides it from the head
      this.head.damage = { seq: data.indexed + 1, message: data.failed };
      this.head.seq = this.model.head = data.indexed;
      this.model.isDamaged = true;
      this.#warn(this.head.damage);
      if (this.seq > data.indexed) this.go(data.indexed);
    }
  }

  /** What the address asks for: a moment, a range, or to go along. */
  moment(from, to) {
    this.address = location.hash;
    this.range = to === null ? null : [from, to];
    this.following = from === null;
    if (from !== null) this.seq = to ?? from;
    else if (this.model.head) this.seq = this.model.head;
    this.opening.then(() => { this.go(this.seq, false); this.#diff(); });
  }

  /** Move the playhead: at once; the panes follow when they have what they need. */
  go(seq, isUser = true) {
    const { model } = this;
    if (!model.head) return;
    this.seq = Math.min(Math.max(seq, Math.min(model.base + 1, model.head)), model.head);
    if (isUser && this.range === null) this.following = this.seq === model.head;
    this.#playhead();
    this.#paint();
    this.settleSoon();
  }

  #paint() {
    const { seq, model } = this;
    const found = model.at(seq);
    if (found === undefined) {
      this.element.classList.add("loading");
      this.#loadWanted();
      return;
    }
    this.element.classList.remove("loading");
    const changes = this.memory.show(this.path, found, model.base);
    fill(this.changed, ...[["added", "+"], ["changed", "~"], ["removed", "−"]].filter(([kind]) => changes[kind]).map(([kind, sign]) => h("span", { class: kind }, `${sign}${number(changes[kind])} `, h("span", { class: "unseen" }, kind))));
    if (this.left === "conversation") this.conversation.show(this.path, seq, model.base); else this.log.show(model, seq);
    this.#event(found);
    this.#header();
    this.#playhead();
    const text = found.event ? `${found.event.type} ${found.event.title}` : "the beginning";
    tell(`Event ${seq}: ${text}`);
    this.painted = seq;
  }

  /** Load the window of the playhead, one at a time: while one is loaded the playhead may move on. */
  async #loadWanted() {
    if (this.isLoading) return;
    this.isLoading = true;
    try {
      for (let seq = this.seq; this.model.at(seq) === undefined; seq = this.seq) {
        await this.model.load(seq);
        if (this.closed) return;
        if (this.model.at(seq) === undefined && this.seq === seq) break;
      }
      this.#paint();
    } catch (error) {
      this.options.failed(error);
    } finally {
      this.isLoading = false;
    }
  }

  /** When the playhead rests: the address, the event in full, and what lies around. */
  #settle() {
    if (this.closed || !this.model.head) return;
    const address = this.range ? `${place(this.path)}@${this.range[0]}..${this.range[1]}` : this.following ? place(this.path) : moment(this.path, this.seq);
    // An address that is another than the last one seen here is on its way to `moment`: it must not be overwritten.
    if (location.hash === this.address && address !== this.address) {
      history.replaceState(null, "", address);
      this.address = address;
    }
    this.model.prefetch(this.seq);
    this.#readEvent();
  }

  #playhead() {
    const event = this.model.event(this.seq);
    this.timeline.set({ seq: this.seq, head: this.model.head, text: event ? `${event.type} ${event.title}` : "", range: this.range });
    this.#controls();
  }

  #controls() {
    this.transport.set({ at: this.seq ?? 0, head: this.model.head, event: this.model.event(this.seq), range: this.range, playing: this.playing, speed: this.speed, byTime: this.byTime, following: this.following });
  }

  #header() {
    const { head, model } = this;
    if (!head) return;
    const state = model.at(this.seq);
    fill(this.word, this.gone ? status("erased", "terminated") : head.damage ? status("damaged") : status(state?.status ?? head.status), head.work && !this.gone ? h("a", { href: "#/work", class: `pill ${head.work[1].replaceAll(" ", "-")}` }, head.work[1]) : null);
    const behind = model.head - (this.seq ?? model.head);
    const event = model.event(this.seq);
    const asOf = behind > 0 ? h("span", { class: "as-of" }, `as of @${this.seq}`, event ? ` · ${clock(event.time)}` : "", ` · ${number(behind)} event${behind === 1 ? "" : "s"} ago `, h("button", { type: "button", class: "link", onclick: () => this.follow(true) }, "back to now")) : null;
    const fact = (name, ...shown) => h("span", {}, h("span", { class: "dim" }, name, " "), shown);
    fill(this.facts, ...[asOf, head.session ? fact("session", said(state?.session ?? head.session, "mono")) : null, head.type ? fact("type", said(head.type)) : null, fact("seq", number(model.head)),
      head.host ? fact("host", h("span", { class: "mono" }, head.host.slice(0, 8)), ` · epoch ${head.fence}`) : null, head.parent ? fact("parent", h("a", { href: place(head.parent) }, said(head.parent))) : null,
      head.origin ? fact("forked from", h("a", { href: moment(head.origin.agent, head.origin.seq) }, said(head.origin.agent), `@${head.origin.seq}`)) : null,
      head.started ? fact("started", head.started.slice(11, 19)) : null, head.updated ? fact("updated", ago(Date.parse(head.updated)), behind === 0 ? " ago" : "") : null, head.base ? fact("trimmed to", `@${head.base}`) : null].filter(Boolean));
    const allowed = this.options.actions;
    const why = allowed ? null : "This inspector only reads: start it with --allow-actions";
    const button = (label, call, enabled = true) => h("button", { type: "button", class: "button", disabled: !allowed || !enabled, title: why, onclick: call }, label);
    const key = `${allowed} ${head.status} ${head.checkpoints.length} ${this.gone}`;
    if (this.shownButtons === key) return;
    this.shownButtons = key;
    if (this.gone || head.damage) { fill(this.buttons, this.gone ? "" : h("button", { type: "button", class: "button main", onclick: () => this.compare() }, "Diff")); return; }
    const actions = this.options.recorded ? [] : [(head.checkpoints.length && head.status === "running") || head.status === "paused" ? button("Resume…", () => this.#resume()) : "", head.status === "running" ? button("Pause…", () => this.#pause()) : "", button("Fork here…", () => this.#fork())];
    fill(this.buttons, actions, h("button", { type: "button", class: "button main", onclick: () => this.compare() }, "Diff"));
  }

  // -- the event ------------------------------------------------------------------------------------------------------

  #event(found) {
    const { event, seq } = found;
    this.eventSeq.textContent = `@${seq}`;
    if (event === null) { fill(this.eventPane, h("p", { class: "empty" }, "Nothing has happened yet.")); return; }
    const before = this.model.event(seq - 1);
    const start = this.model.appendStart(seq);
    const chips = [];
    for (let at = start; at < start + 24; at += 1) {
      const each = this.model.event(at);
      if (!each || each.time !== event.time) break;
      chips.push(h("a", { class: "chip", href: moment(this.path, at), "aria-current": at === seq ? "true" : null }, `@${at}`));
    }
    this.more = h("div", { class: "more-of-event" });
    const known = this.full?.seq === seq ? this.full : null;
    fill(this.eventPane, h("h3", {}, event.type), h("p", {}, said(event.title), event.detail ? h("span", { class: "dim" }, ": ", said(event.detail)) : null),
      h("p", { class: "dim" }, `${day(event.time)} ${clock(event.time, true)} UTC`, before ? (before.time === event.time ? ` · with @${seq - 1}` : ` · ${duration((event.time - before.time) / 1000)} after @${seq - 1}`) : ""),
      chips.length > 1 ? h("div", { class: "chips" }, h("span", { class: "dim" }, "append"), chips) : null, this.more);
    if (known) this.#eventInFull(known);
    else if (this.full) this.more.append(h("p", { class: "dim" }, "…"));
  }

  async #readEvent() {
    const { seq } = this;
    if (seq < 1 || this.full?.seq === seq || this.gone) return;
    this.eventAbort?.abort();
    this.eventAbort = new AbortController();
    try {
      const answer = await get("event", { agent: this.path, seq }, this.eventAbort.signal);
      if (this.seq !== seq || this.closed) return;
      this.full = answer;
      this.#eventInFull(answer);
    } catch (error) {
      if (error.name !== "AbortError") this.options.failed(error);
    }
  }

  #eventInFull(answer) {
    const facts = [["command", answer.command], ["correlation", answer.correlation], ["session", answer.session], ["level", answer.level], ["version", answer.version > 1 ? String(answer.version) : null], ["digest", answer.digest.slice(0, 12)]];
    if (this.more) fill(this.more, causes("Causes", answer.causes, answer.tool?.seq === answer.seq && answer.tool.agent === answer.agent ? null : answer.tool, "this event"), h("h4", {}, "Data"), lines(parse(answer.data), 60, this.#readOf(answer)),
      answer.metadata ? [h("h4", {}, "Metadata"), lines(parse(answer.metadata))] : "",
      h("dl", { class: "pairs" }, facts.filter(([, held]) => held).map(([name, held]) => [h("dt", {}, name), h("dd", { class: "mono" }, said(held))])),
      h("div", { class: "ends" }, h("button", { type: "button", class: "button", disabled: answer.seq <= this.model.base + 1, onclick: () => { location.hash = `${place(this.path)}@${answer.seq - 1}..${answer.seq}`; } }, "Diff from before"), h("button", { type: "button", class: "button", onclick: () => this.mark() }, "Mark as A")));
  }

  /** What shows a long value in the data of an event. */
  #readOf({ agent, seq }) {
    return (path, node) => readLong(path.join("/"), { agent, seq, of: "event", path: JSON.stringify(path), kind: kindOf(node) });
  }

  // -- a value --------------------------------------------------------------------------------------------------------

  #blame(row, element) {
    this.#why(row.path.join("/"), value(row.node), { seq: this.seq, path: JSON.stringify(row.path) }, element, this.#valuesOf(row.path));
  }

  /** The values that were written at a path until the playhead, as far as the events are here, newest first. */
  #valuesOf(path) {
    const found = [];
    for (const each of this.model.windows.values()) for (const event of each.events) {
      if (event.seq > this.seq || event.type === "resumed") continue; // the event before it has brought the values back
      const write = event.writes.findLast(([where]) => where.length <= path.length && where.every((segment, at) => segment === path[at]));
      if (write) found.push([event.seq, write[1] === undefined ? undefined : lookup(write[1], path.slice(write[0].length))?.v]);
    }
    return found.sort(([one], [other]) => other - one).slice(0, MOST_VALUES);
  }

  /** Say beside an element which event set a value, and why: `asked` names the value. */
  async #why(name, shown, asked, element, values = []) {
    const box = this.#float(element, h("h2", { class: "mono" }, said(name)), h("p", { class: "mono" }, shown));
    const list = h("ol", { class: "chain" }, h("li", { class: "here" }, "…"));
    const ends = h("div", { class: "ends" }, h("button", { type: "button", class: "button", onclick: () => box.remove() }, "Close"));
    box.append(list);
    if (values.length > 1) box.append(h("h3", {}, "Values until here ", h("span", { class: "dim" }, "among the events that were read")), h("ol", { class: "values" }, values.map(([seq, held]) => h("li", {}, h("a", { class: "mono", href: moment(this.path, seq) }, `@${seq}`), h("span", { class: "mono clip" }, held === undefined ? h("span", { class: "dim" }, "removed") : value(held))))));
    box.append(ends);
    box.querySelector("button")?.focus();
    try {
      const answer = await get("blame", { agent: this.path, ...asked });
      const at = ({ agent, seq }) => h("a", { href: moment(agent, seq) }, agent === this.path ? `@${seq}` : `${agent}@${seq}`);
      const step = (words, event, more = null) => h("li", {}, words, " ", event.tool && words.startsWith("from") ? [h("b", {}, said(event.tool)), " "] : null, at(event), " ", event.type, " ", h("span", { class: "dim" }, said(event.detail || event.title)), more);
      fill(list, answer.event ? h("li", { class: "here" }, "set by ", at(answer), ` ${answer.event.type}`, h("div", { class: "dim" }, answer.event.time.slice(0, 23).replace("T", " ")), answer.command ? h("div", { class: "dim" }, "command ", said(answer.command, "mono")) : null) : h("li", { class: "here" }, `set at @${answer.seq} or before, which was trimmed`),
        ...answer.carried.map((each) => step("carried by", each)), answer.tool ? step("from the output of", answer.tool) : "", ...answer.causes.map((each) => step("caused by", each)));
      const { agent, seq } = answer;
      if (answer.event && (agent !== this.path || seq > this.model.base + 1)) ends.prepend(h("button", { type: "button", class: "button", onclick: () => { box.remove(); location.hash = `${place(agent)}@${seq - 1}..${seq}`; } }, `Diff ${seq - 1} … ${seq}`));
    } catch (error) {
      list.append(h("li", { class: "failed" }, error.message));
    }
  }

  #float(element, ...children) {
    document.querySelector(".float")?.remove();
    const box = h("div", { class: "float", role: "dialog", "aria-label": "Why this value" }, children);
    box.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); box.remove(); element.focus(); } });
    document.body.append(box);
    const beside = element.getBoundingClientRect();
    const wide = Math.min(400, innerWidth - 16);
    box.style.setProperty("width", `${wide}px`);
    box.style.setProperty("left", `${Math.max(8, Math.min(beside.right - wide, innerWidth - wide - 8))}px`);
    if (beside.bottom + 280 < innerHeight) box.style.setProperty("top", `${beside.bottom + 4}px`);
    else box.style.setProperty("bottom", `${innerHeight - beside.top + 4}px`);
    return box;
  }

  #look(row, element) {
    const title = row.path.join("/");
    if (isCut(row.node)) readLong(title, { agent: this.path, seq: this.seq, of: "memory", path: JSON.stringify(row.path), kind: kindOf(row.node) });
    else if (typeof row.node === "string" && row.node.length < 60) this.#blame(row, element);
    else dialog(title, h("div", { class: "whole" }, lines(row.node)));
  }

  /** Mark on the timeline the writes of a value that are known here. */
  #trace(path) {
    const key = path.join("\u0000");
    const found = new Set();
    for (const each of this.model.windows.values()) for (const event of each.events) for (const [where] of event.writes) {
      const written = where.join("\u0000");
      if (written === key || key.startsWith(`${written}\u0000`) || written.startsWith(`${key}\u0000`)) found.add(event.seq);
    }
    this.traced = [...found].sort((a, b) => a - b);
    this.timeline.set({ trace: this.traced });
  }

  // -- moving ---------------------------------------------------------------------------------------------------------

  step(direction, byEvent = false, times = 1) {
    let to = this.seq;
    for (let turn = 0; turn < times; turn += 1) to = byEvent ? to + direction : this.model.appendEnd(to, direction);
    this.go(to);
  }

  follow(now = !this.following) {
    this.following = now;
    this.range = null;
    this.#diff();
    if (now) this.go(this.model.head); else this.#controls();
    this.#settle();
  }

  axis() {
    this.byTime = !this.byTime;
    this.#readTimeline();
  }

  #zoom(from, to) {
    const { base, head } = this.model;
    const span = to - from;
    if (span >= head - base - 1) this.zoomed = null;
    else {
      const first = Math.max(base + 1, Math.min(from, head - span));
      this.zoomed = [first, Math.min(head, first + span)];
    }
    this.#readTimeline();
  }

  /** Play the log in the time it was recorded, gaps cut to a second. */
  play() {
    if (this.playing) { clearTimeout(this.playing); this.playing = 0; this.#controls(); return; }
    if (this.seq >= this.model.head) this.go(this.model.base + 1);
    const next = async () => {
      const to = this.model.appendEnd(this.seq, 1);
      if (to <= this.seq) { this.playing = 0; this.#controls(); return; }
      await this.model.load(to).catch(() => {});
      if (!this.playing) return;
      const pause = Math.min(Math.max(((this.model.event(to)?.time ?? 0) - (this.model.event(this.seq)?.time ?? 0)) / 1000, 0), LONGEST_PAUSE) / this.speed;
      this.playing = setTimeout(() => { this.go(to); next(); }, Math.max(pause, 16));
    };
    this.playing = 1;
    this.#controls();
    next();
  }

  mark() {
    this.markA = this.seq;
    tell(`A is event ${this.seq}`);
    this.options.note(`A is @${this.seq}: go elsewhere, then press d to compare`);
  }

  compare() {
    if (this.range) { location.hash = moment(this.path, this.range[1]); return; }
    const a = this.markA ?? Math.max(this.model.base, this.model.appendEnd(this.seq, -1));
    const [low, high] = a <= this.seq ? [a, this.seq] : [this.seq, a];
    location.hash = `${place(this.path)}@${low}..${high}`;
  }

  #diff() {
    this.diffPane.hidden = this.range === null;
    this.panes.hidden = this.phoneTabs.hidden = this.range !== null;
    this.element.classList.toggle("comparing", this.range !== null);
    if (this.range === null) { this.diffPane.replaceChildren(); return; }
    const why = (property, seq, element) => this.#why(property, h("span", { class: "dim" }, `as of @${seq}`), { seq, property }, element);
    const view = new DiffView(this.path, this.range, { why, failed: this.options.failed, close: () => { location.hash = moment(this.path, this.range[1]); } });
    fill(this.diffPane, view.element);
    this.#playhead();
  }

  show(name) {
    if (name === "conversation" || name === "log") {
      this.left = name;
      this.panes.dataset.left = name;
      if (this.model.head && this.model.at(this.seq)) { if (name === "log") this.log.show(this.model, this.seq); else this.conversation.show(this.path, this.seq); }
    }
    this.panes.dataset.tab = name;
    for (const tab of this.tabs.slice(0, 2)) tab.setAttribute("aria-selected", String(tab.id === `tab-${this.left}`));
    for (const tab of this.phoneTabs.children) tab.setAttribute("aria-selected", String(tab.dataset.tab === name));
  }

  /** Take in that the agent has changed. */
  update(change) {
    if (this.gone || this.damaged || change.seq <= this.model.head) return;
    this.model.head = change.seq;
    this.headSoon();
    this.timelineSoon();
    if (this.following && this.range === null && !this.playing) this.go(change.seq, false); else { this.#header(); this.#playhead(); }
    if (this.left === "log") this.log.show(this.model, this.seq);
  }

  keys(event) {
    const jump = (mark) => mark && this.go(mark.seq);
    const trace = (direction) => { const to = direction > 0 ? this.traced?.find((seq) => seq > this.seq) : this.traced?.findLast((seq) => seq < this.seq); if (to) this.go(to); };
    const keys = {
      ArrowRight: () => this.step(1, event.altKey, event.shiftKey ? 10 : 1), ArrowLeft: () => this.step(-1, event.altKey, event.shiftKey ? 10 : 1),
      j: () => jump(this.timeline.mark(1)), k: () => jump(this.timeline.mark(-1)), e: () => jump(this.timeline.mark(1, "errors")), E: () => jump(this.timeline.mark(-1, "errors")),
      Home: () => this.go(this.model.base + 1), End: () => this.go(this.model.head), " ": () => this.play(), "+": () => this.timeline.zoom(1), "=": () => this.timeline.zoom(1), "-": () => this.timeline.zoom(-1),
      t: () => this.axis(), "#": () => this.#ask(), a: () => this.mark(), d: () => this.compare(), ".": () => trace(1), ",": () => trace(-1), c: () => this.show("conversation"), l: () => this.show("log"), f: () => this.follow(),
    };
    keys[event.key]?.();
    return event.key in keys;
  }

  #ask() {
    const input = h("input", { type: "text", inputmode: "numeric", "aria-label": "seq", size: "12" });
    const box = dialog("Go to seq", h("form", { onsubmit: (event) => { event.preventDefault(); const seq = Number.parseInt(input.value, 10); if (Number.isSafeInteger(seq)) this.go(seq); box.close(); } }, input, " ", h("button", { class: "button main" }, "Go")));
    input.focus();
  }

  // -- actions --------------------------------------------------------------------------------------------------------

  #pause() {
    const name = h("input", { type: "text", placeholder: "made up if empty", "aria-label": "Checkpoint" });
    this.#confirm("Pause this agent", [h("label", {}, "Checkpoint ", name)], "Pause", () => act("pause", { agent: this.path, checkpoint: name.value.trim() }));
  }

  #resume() {
    const choice = h("select", { "aria-label": "Checkpoint" }, this.head.status === "paused" ? h("option", { value: "" }, "where it was paused") : null, this.head.checkpoints.map((each) => h("option", { value: each.id }, `${each.id} (@${each.seq})`)));
    const clear = h("input", { type: "checkbox" });
    this.#confirm("Resume this agent", [h("label", {}, "From ", choice), h("label", {}, clear, " remove items that the checkpoint has not")], "Resume", () => act("resume", { agent: this.path, checkpoint: choice.value, clear: clear.checked }));
  }

  #fork() {
    const name = h("input", { type: "text", value: `${this.path}-fork`, "aria-label": "Path of the fork", size: "36" });
    this.#confirm(`Fork from @${this.seq}`, [h("p", {}, "A new agent with the working memory of this moment. The old one stays as it is."), h("label", {}, "Path ", name)], "Fork", async () => {
      const done = await act("fork", { agent: this.path, seq: this.seq, to: name.value.trim() });
      location.hash = place(done.agent);
      return done;
    });
  }

  #confirm(title, fields, word, call) {
    const problem = h("p", { class: "failed", role: "alert" });
    const go = h("button", { class: "button main" }, word);
    const box = dialog(title, h("form", { onsubmit: async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        const done = await call();
        box.close();
        this.options.note(done.done);
        this.headSoon();
      } catch (error) {
        problem.textContent = error.message;
        go.disabled = false;
      }
    } }, fields, problem, h("div", { class: "ends" }, go)));
    box.querySelector("input, select")?.focus();
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    clearTimeout(this.playing);
    document.querySelector(".float")?.remove();
  }
}

/** A chain of causes, nearest first. */
export function causes(title, list, tool, here) {
  if (list.length === 0 && !tool) return null;
  const step = (event, words) => h("li", {}, words, h("a", { href: moment(event.agent, event.seq) }, `${event.agent}@${event.seq}`), ` ${event.type} `, h("span", { class: "dim" }, said(event.detail || event.title)));
  return h("div", {}, h("h4", {}, title), h("ol", { class: "chain" }, h("li", { class: "here" }, here), tool ? step(tool, [h("b", {}, said(tool.tool ?? "tool")), " "]) : null, list.map((event) => step(event, ""))));
}

export { glyph, loadChildren, lookup };
