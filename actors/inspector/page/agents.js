// The list of agents: a page of its own, and narrow beside an agent.

import { get } from "./api.js";
import { ago, debounce, fill, glyph, h, number, place, Rows, said, status } from "./dom.js";

const PAGE = 100;
const EXAMPLE = `from duramen.actors import AgentSystem

with AgentSystem.open() as system:
    alice = system.spawn("acme/alice")
    alice.set("goal", "plan a trip")`;
const STATUSES = [["", "All", "all"], ["running", "Running", "running"], ["unfinished", "Unfinished work", "unfinished"], ["paused", "Paused", "paused"], ["failed", "Failed", "failed"], ["terminated", "Terminated", "terminated"], ["damaged", "Damaged", "damaged"]];

/** The rows of the tree as the server has them, in pages, for one filter. */
class AgentRows {
  constructor(handlers) {
    this.handlers = handlers;
    this.query = { text: "", status: "" };
    this.closed = new Set();
    this.pages = new Map();
    this.under = new Set();
    this.total = 0;
    this.counts = {};
    this.turn = 0;
  }

  at(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  async load(first, last) {
    const wanted = [];
    for (let page = Math.floor(first / PAGE); page <= Math.floor(Math.max(last, first) / PAGE); page += 1) if (!this.pages.has(page) && !this.under.has(page)) wanted.push(page);
    await Promise.all(wanted.map((page) => this.#page(page)));
  }

  async #page(page) {
    const { turn } = this;
    this.under.add(page);
    try {
      const answer = await get("agents", { ...this.query, closed: [...this.closed].join("\n"), first: page * PAGE, count: PAGE });
      if (turn !== this.turn) return;
      this.pages.set(page, answer.rows);
      Object.assign(this, { total: answer.total, counts: answer.counts, more: answer.more, reading: answer.reading });
      this.handlers.changed();
    } catch (error) {
      if (turn === this.turn) this.handlers.failed(error);
    } finally {
      if (turn === this.turn) this.under.delete(page);
    }
  }

  /** Read again what is in sight; what was there is shown until it has come. */
  async renew(first, last) {
    this.turn += 1;
    this.under.clear();
    const old = this.pages;
    this.pages = new Map();
    const { turn } = this;
    const answer = await get("agents", { ...this.query, closed: [...this.closed].join("\n"), first: Math.floor(first / PAGE) * PAGE, count: PAGE }).catch((error) => { this.handlers.failed(error); return null; });
    if (turn !== this.turn) return;
    if (answer === null) { this.pages = old; return; }
    this.pages.set(Math.floor(first / PAGE), answer.rows);
    Object.assign(this, { total: answer.total, counts: answer.counts, more: answer.more, reading: answer.reading });
    this.handlers.changed();
    if (last >= (Math.floor(first / PAGE) + 1) * PAGE) this.load(first, last);
  }

  toggle(path) {
    if (this.closed.has(path)) this.closed.delete(path); else this.closed.add(path);
  }

  /** Take in what has changed; whether all of it was among the rows that are here. */
  update(agents) {
    const here = new Map();
    for (const page of this.pages.values()) for (const row of page) here.set(row.path, row);
    let isKnown = true;
    for (const agent of agents) {
      const row = here.get(agent.path);
      if (row === undefined) { isKnown = false; continue; }
      if (row.status !== agent.status || agent.work) isKnown = false;
      row.fresh = row.seq !== agent.seq;
      Object.assign(row, { seq: agent.seq, status: agent.status, updated: agent.updated, last: agent.last, activity: agent.activity });
    }
    return isKnown;
  }
}

/** A list of agents. `wide` has columns; a narrow one is for beside. */
export class AgentList {
  constructor(handlers, wide) {
    this.wide = wide;
    this.handlers = handlers;
    this.isPhone = matchMedia("(max-width: 720px)");
    this.data = new AgentRows({ changed: () => this.#changed(), failed: handlers.failed });
    this.rows = new Rows(this.#height(), (index) => this.#row(index), { role: "treegrid", "aria-label": "Agents", class: `rows agents ${wide ? "wide" : "narrow"}`, onkeydown: (event) => this.#key(event) });
    this.rows.onsight = (first, last) => { if (last >= first) this.data.load(first, last); };
    this.rows.element.addEventListener("click", (event) => this.#click(event));
    this.turn = () => { this.rows.height = this.#height(); this.rows.set(this.data.total); };
    this.isPhone.addEventListener("change", this.turn);
    this.input = h("input", { type: "search", placeholder: wide ? "Filter: a path, status:failed, type:support" : "Filter", "aria-label": "Filter agents", spellcheck: "false", autocomplete: "off", oninput: debounce(90, () => { this.data.query.text = this.input.value; this.#again(); }) });
    this.filter = h("label", { class: "filter" }, glyph("search"), this.input, h("kbd", { "aria-hidden": "true" }, "/"));
    this.statuses = h("div", { class: "statuses", role: "group", "aria-label": "Status" });
    this.empty = h("div", { class: "empty", hidden: !wide }, h("p", { class: "reading" }, "reading …"));
    this.current = 0;
    this.renewSoon = debounce(400, () => this.renew());
    this.element = this.#frame();
    this.clock = setInterval(() => this.#clock(), 1000);
    this.data.load(0, PAGE - 1);
  }

  #height() {
    return this.wide ? (this.isPhone.matches ? 56 : 32) : 28;
  }

  #frame() {
    if (!this.wide) return h("aside", { class: "beside", "aria-label": "Agents" }, this.filter, this.rows.element, this.empty);
    const columns = ["Agent", "Status", "Activity, 5 min", "Last event", "Work", "Type · host", "Updated"].map((name) => h("span", { role: "columnheader", class: name.toLowerCase().split(/,| ·/)[0].replace(" ", "-") }, name));
    return h("section", { class: "agents-page" }, h("h1", { class: "unseen" }, "Agents"), h("div", { class: "filters" }, this.filter, this.statuses), h("div", { class: "columns", role: "row", "aria-hidden": "true" }, columns), this.rows.element, this.empty);
  }

  renew() {
    this.data.renew(...this.rows.sight());
  }

  #again() {
    this.rows.element.scrollTop = 0;
    this.current = 0;
    this.data.renew(0, PAGE - 1);
  }

  update(message) {
    if (message.many || !this.data.update(message.agents)) this.renewSoon();
    else this.rows.set(this.data.total);
  }

  /** Show which agent is looked at. */
  select(path) {
    this.selected = path;
    this.rows.set(this.data.total);
  }

  close() {
    this.isPhone.removeEventListener("change", this.turn); // which would keep all this in memory
    clearInterval(this.clock);
  }

  #changed() {
    this.rows.set(this.data.total);
    if (this.data.reading) this.renewSoon();
    const { counts, query } = this.data;
    fill(this.statuses, ...STATUSES.filter(([key, , name]) => key === "" || counts[name] || query.status === key).map(([key, label, name]) => h("button", { type: "button", "aria-pressed": String(query.status === key), onclick: () => { query.status = key; this.#again(); } }, label, h("span", { class: "count" }, number(counts[name] ?? 0), name === "unfinished" && this.data.more ? "+" : null, this.data.reading ? " …" : null))));
    this.empty.hidden = this.data.total > 0;
    this.rows.element.setAttribute("role", this.data.total > 0 ? "treegrid" : "group");
    if (this.data.total > 0) this.rows.element.setAttribute("aria-rowcount", String(this.data.total)); else this.rows.element.removeAttribute("aria-rowcount");
    if (this.data.total === 0) {
      const filtered = query.text || query.status;
      if (filtered) fill(this.empty, h("p", {}, "No agent fits the filter."), h("button", { type: "button", class: "button", onclick: () => { query.text = query.status = this.input.value = ""; this.#again(); } }, "Show all"));
      else fill(this.empty, h("div", { class: "first-steps" }, h("h2", {}, "No agents yet"), h("p", {}, "They appear here the moment they are spawned, in this process or another."), this.wide ? [h("pre", { class: "code" }, EXAMPLE), h("p", {}, "Or, from a shell: ", h("code", {}, "duramen run"), " makes agents of recorded sessions.")] : null));
    }
  }

  #row(index) {
    const row = this.data.at(index);
    const shared = { role: "row", "data-index": index, "aria-rowindex": index + 1, tabindex: index === this.current ? "0" : "-1" };
    if (row === undefined) return h("div", { ...shared, class: "agent-row" });
    const name = row.path.split("/").at(-1);
    const fold = h("span", { class: "fold" }, row.below ? glyph(row.closed ? "closed" : "open") : null);
    const indent = { "padding-left": `${(this.wide ? 16 : 8) + row.depth * (this.wide ? 16 : 16)}px` };
    const level = { "aria-level": row.depth + 1, "aria-expanded": row.below ? String(!row.closed) : null };
    if (row.status === undefined) return h("div", { ...shared, ...level, class: "agent-row project" }, h("span", { role: "gridcell", class: "agent", style: indent }, fold, h("span", { class: "clip" }, readable(name)), h("span", { class: "dim" }, number(row.agents))));
    const link = h("a", { href: place(row.path), class: "clip", tabindex: "-1" }, readable(name));
    const selected = row.path === this.selected;
    const fresh = row.fresh ? " fresh" : "";
    if (!this.wide) return h("div", { ...shared, ...level, class: `agent-row${fresh}`, "aria-selected": String(selected) }, h("span", { role: "gridcell", class: "agent", style: indent }, fold, h("span", { class: `status ${row.status}`, title: row.status }, status(row.status).firstChild, h("span", { class: "unseen" }, row.status)), link), row.work ? h("span", { class: `badge${row.work[1] === "waits for you" ? "" : " quiet"}`, title: row.work[1] }, number(row.work[0]), h("span", { class: "unseen" }, " unfinished")) : null, h("span", { role: "gridcell", class: "seq" }, row.seq));
    const last = row.last ? [h("span", { class: "at" }, `@${row.last[0]} `), h("span", {}, row.last[1]), " ", h("span", { class: "dim" }, said(row.last[2].startsWith(row.last[1]) ? row.last[2].slice(row.last[1].length).replace(/^[:,]? /, "") : row.last[2]), row.last[3] ? [": ", said(row.last[3])] : null)] : null;
    return h("div", { ...shared, ...level, class: `agent-row${fresh}`, "aria-selected": String(selected) },
      h("span", { role: "gridcell", class: "agent", style: indent }, fold, link),
      h("span", { role: "gridcell" }, status(row.status)), h("span", { role: "gridcell", class: "activity" }, bars(row.activity)), h("span", { role: "gridcell", class: "last-event clip" }, last),
      h("span", { role: "gridcell", class: "work" }, row.work ? h("a", { href: "#/work", class: `pill ${row.work[1].replaceAll(" ", "-")}`, tabindex: "-1", title: `${number(row.work[0])} unfinished` }, row.work[1], row.work[0] > 1 ? ` ×${number(row.work[0])}` : null) : null),
      h("span", { role: "gridcell", class: "type clip" }, row.type ? said(row.type) : null, row.host ? h("span", { class: "host" }, row.type ? " · " : null, h("span", { class: "mono" }, row.host)) : row.type ? null : "–"),
      h("span", { role: "gridcell", class: "updated", "data-updated": row.updated }, ago(row.updated / 1000)));
  }

  #clock() {
    for (const cell of this.rows.element.querySelectorAll("[data-updated]")) {
      const text = ago(Number(cell.dataset.updated) / 1000);
      if (cell.textContent !== text) cell.textContent = text;
    }
  }

  #click(event) {
    const element = event.target.closest("[role=row]");
    if (!element) return;
    const index = Number(element.dataset.index);
    const row = this.data.at(index);
    if (!row) return;
    if (row.status === undefined || event.target.closest(".fold")) {
      event.preventDefault();
      if (row.below) { this.data.toggle(row.path); this.renew(); }
    } else if (!event.target.closest("a") && !event.metaKey && !event.ctrlKey) location.hash = place(row.path);
  }

  #key(event) {
    const row = this.data.at(this.current);
    const go = (to) => {
      this.current = Math.min(Math.max(to, 0), this.data.total - 1);
      this.rows.show(this.current);
      this.rows.set(this.data.total);
      this.rows.held.get(this.current)?.focus();
    };
    const fold = (wanted) => { if (row?.below && row.closed !== wanted) { this.data.toggle(row.path); this.renew(); } else if (!wanted) go(this.current + 1); };
    const keys = { ArrowDown: () => go(this.current + 1), ArrowUp: () => go(this.current - 1), Home: () => go(0), End: () => go(this.data.total - 1), PageDown: () => go(this.current + 15), PageUp: () => go(this.current - 15), ArrowRight: () => fold(false), ArrowLeft: () => fold(true), Enter: () => { if (row?.status !== undefined) location.hash = place(row.path); } };
    if (!keys[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  }
}

/** How busy an agent was in the last five minutes, as bars; told to screen readers as a number. */
function bars(counts) {
  if (!counts) return null;
  const total = counts.reduce((sum, each) => sum + each, 0);
  if (total === 0) return null;
  const most = Math.max(...counts);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, set] of Object.entries({ viewBox: "0 0 120 18", width: "120", height: "18", role: "img", "aria-label": `${total} events` })) svg.setAttribute(key, set);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", counts.map((count, index) => (count === 0 ? "" : `M${index * 4 + 1.5} 18V${(16 - 14 * Math.sqrt(count / most)).toFixed(1)}`)).join(""));
  svg.append(path);
  return svg;
}

/** A segment of a path as a person wrote it. */
export function readable(segment) {
  return said(segment);
}

const NAMES = [["events", "Events", "/s"], ["appends", "Appends", "/s"], ["tokens", "Tokens", "/s"], ["errors", "Errors", ""]];

/** Small charts of the last two minutes. */
export class Rates {
  constructor() {
    this.boxes = NAMES.map(([key, label, unit]) => {
      const value = h("b", {});
      const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      line.setAttribute("viewBox", "0 0 120 32");
      line.setAttribute("preserveAspectRatio", "none");
      line.setAttribute("aria-hidden", "true");
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.append(path);
      return { key, unit, value, path, element: h("div", { class: `rate ${key}` }, h("span", { class: "label" }, label), h("span", { class: "value" }, value, h("span", { class: "dim" }, key === "errors" ? " in 2 min" : unit)), line) };
    });
    this.element = h("section", { class: "rates", "aria-label": "What happens now" }, this.boxes.map((box) => box.element));
  }

  show(points) {
    for (const box of this.boxes) {
      const values = points[box.key];
      const recent = values.slice(-11, -1);
      const rate = box.key === "errors" ? values.reduce((sum, each) => sum + each, 0) : recent.reduce((sum, each) => sum + each, 0) / recent.length;
      box.value.textContent = rate >= 100 || Number.isInteger(rate) ? number(Math.round(rate)) : rate.toFixed(1);
      const most = Math.max(1, ...values);
      box.path.setAttribute("d", values.map((each, index) => `${index === 0 ? "M" : "L"}${index} ${(30 - (28 * each) / most).toFixed(1)}`).join(""));
    }
  }
}
