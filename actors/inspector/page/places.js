// Episodes, hosts and consumers, verify; and the difference of two moments.

import { get } from "./api.js";
import { ago, back, debounce, duration, fill, glyph, h, moment, number, place, said, status } from "./dom.js";
import { kindOf, readLong } from "./long_values.js";
import { lines } from "./memory.js";
import { lookup, parse } from "./model.js";

const NATURAL = new Intl.Collator("en", { numeric: true });
const FEW = 3;
const KINDS = { added: ["+", "added"], changed: ["~", "changed"], removed: ["−", "removed"] };

export class DiffView {
  constructor(path, [a, b], handlers) {
    this.body = h("div", { class: "diff-rows" }, h("p", { class: "dim" }, "…"));
    this.counts = h("span", { class: "changed" });
    this.filter = h("input", { type: "search", placeholder: "Filter paths", "aria-label": "Filter paths", oninput: () => this.#fill() });
    this.ends = h("div", { class: "diff-ends" });
    Object.assign(this, { path, a, b, handlers });
    this.element = h("section", { class: "diff", "aria-label": "What differs" }, h("header", {}, h("h2", {}, "What differs"), this.counts, h("span", { class: "grow" }), h("label", { class: "filter" }, glyph("search"), this.filter), h("button", { type: "button", class: "button", onclick: handlers.close }, "Close")), this.ends, this.body);
    get("diff", { agent: path, a, b }).then((answer) => { this.answer = answer; this.#show(); }, (error) => { fill(this.body, h("p", { class: "failed" }, error.message)); handlers.failed(error); });
  }

  #show() {
    const { a, b, counts } = this.answer;
    fill(this.counts, ...Object.entries(KINDS).map(([kind, [sign]]) => h("span", { class: counts[kind] ? kind : "dim" }, `${sign} ${number(counts[kind])} `)));
    const end = (name, at) => h("div", {}, h("span", { class: "flag" }, name), h("a", { href: moment(this.path, at.seq) }, `@${at.seq}`), h("span", { class: "dim" }, at.time ? ` ${at.time.slice(0, 23).replace("T", " ")}` : "", ` ${at.status}`));
    fill(this.ends, h("span", { class: "dim" }, "Path"), end("A", a), end("B", b));
    this.#fill();
  }

  #fill() {
    if (!this.answer) return;
    const wanted = this.filter.value.toLowerCase();
    const rows = [...this.answer.lifecycle.map(([name, old, now]) => ["changed", name, old, now, true]), ...this.answer.rows].filter((row) => row[1].toLowerCase().includes(wanted));
    rows.sort((one, other) => NATURAL.compare(one[1], other[1]));
    const groups = new Map();
    for (const row of rows) {
      const name = row[1].split("/")[0];
      if (groups.has(name)) groups.get(name).push(row); else groups.set(name, [row]);
    }
    const shown = [...groups].sort((one, other) => (one[1].length > FEW) - (other[1].length > FEW)); // what has much comes last
    const total = Object.values(this.answer.counts).reduce((sum, each) => sum + each, 0);
    fill(this.body, ...shown.flatMap(([name, each]) => [each.length > FEW ? h("h3", { class: "group" }, said(name), h("span", { class: "dim" }, ` ${number(each.length)}`)) : null, ...each.map((row) => this.#row(row))]), total > this.answer.rows.length ? h("p", { class: "dim" }, `${number(total - this.answer.rows.length)} more differences: filter, or compare moments that are closer`) : "", rows.length === 0 ? h("p", { class: "empty" }, total === 0 ? "Nothing differs in working memory." : "No path fits the filter.") : "");
  }

  /** The path of a value: a click says which event set it, at B, or at A if it is gone by then. */
  #why(kind, where) {
    const path = h("button", { type: "button", class: "mono", title: "which event set it", onclick: () => this.handlers.why(where, kind === "removed" ? this.a : this.b, path) }, said(where));
    return path;
  }

  #row([kind, where, first, second, isLifecycle]) {
    const [sign, word] = KINDS[kind];
    const readAt = (seq) => (path, node) => readLong([where, ...path].join("/"), { agent: this.path, seq, of: "memory", property: where, path: JSON.stringify(path), kind: kindOf(node) });
    const show = (node, seq) => (node === null && kind !== "changed" ? h("p", { class: "dim" }, "not shown: too much") : side(parse(node), isLifecycle ? null : readAt(seq)));
    const none = h("p", { class: "dim none" }, "–");
    return h("div", { class: `diff-row ${kind}` }, h("div", { class: "diff-path" }, h("span", { class: "sign" }, sign, h("span", { class: "unseen" }, ` ${word} `)), isLifecycle ? h("span", { class: "dim" }, where) : this.#why(kind, where)),
      h("div", { class: "half a" }, kind === "added" ? none : show(first, this.a)), h("div", { class: "half b" }, kind === "removed" ? none : show(kind === "changed" ? second : first, this.b)));
  }
}

// -- episodes -----------------------------------------------------------------------------------------------------------

const BRIEF = 6;

/** One side of a difference: a message by who says what, all else as lines, of which the first few are shown. */
function side(node, read) {
  const said = messageOf(node);
  const box = said === null ? lines(node, 200, read) : h("div", { class: "code" }, said);
  if (box.childElementCount <= BRIEF || said !== null) return box;
  const rest = [...box.children].slice(BRIEF);
  for (const each of rest) each.hidden = true;
  box.append(h("button", { type: "button", class: "link", onclick: (event) => { for (const each of rest) each.hidden = false; event.target.remove(); } }, `… ${number(rest.length)} more lines`));
  return box;
}

function messageOf(node) {
  if (node?.$ !== "dict" || node.kids === null || node.kids.size !== node.n) return null;
  const [role, content] = ["role", "content"].map((key) => node.kids.get(key)?.v);
  const calls = node.kids.get("tool_calls")?.v;
  const known = new Set(["role", "content", "tool_calls", "tool_call_id", "name"]);
  if (typeof role !== "string" || [...node.kids.keys()].some((key) => !known.has(key)) || (typeof content !== "string" && !(content === null && calls?.kids?.length))) return null;
  const names = (calls?.kids ?? []).map(({ v }) => lookup(v, ["function", "name"])?.v ?? lookup(v, ["name"])?.v ?? "a tool");
  return [h("span", { class: "dim" }, said(role), " "), content ? said(content) : null, names.length ? h("span", {}, content ? " " : null, "→ ", said(names.join(", "))) : null];
}

const OUTCOMES = { success: "check", failure: "cross", partial: "partial" };

export class EpisodesPage {
  constructor(options) {
    Object.assign(this, { options, outcome: "", episodes: [], selected: null });
    this.input = h("input", { type: "search", placeholder: "Search in task, lessons, outcome and context", "aria-label": "Search episodes", oninput: debounce(150, () => this.load()) });
    this.outcomes = h("div", { class: "statuses", role: "group", "aria-label": "Outcome" }, [["", "All"], ["success", "Success"], ["failure", "Failure"], ["partial", "Partial"]].map(([key, label]) => h("button", { type: "button", "aria-pressed": String(key === ""), "data-outcome": key, onclick: () => { this.outcome = key; for (const each of this.outcomes.children) each.setAttribute("aria-pressed", String(each.dataset.outcome === key)); this.load(); } }, label)));
    this.list = h("div", { role: "group", "aria-label": "Episodes", tabindex: "0", onkeydown: (event) => this.#key(event) }, h("p", { class: "reading" }, "reading …"));
    this.moreButton = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.load(this.episodes.length) }, "More");
    this.detail = h("article", { class: "episode", tabindex: "0", "aria-label": "Episode" });
    this.two = h("div", { class: "two" }, h("div", { class: "episode-list" }, this.list, this.moreButton), this.detail);
    this.count = h("span", { class: "dim found" });
    this.element = h("section", { class: "episodes-page" }, h("h1", { class: "unseen" }, "Episodes"), h("div", { class: "filters" }, h("label", { class: "filter" }, glyph("search"), this.input, h("kbd", { "aria-hidden": "true" }, "/")), this.outcomes, this.count), this.two);
    this.load();
  }

  async load(first = 0) {
    this.abort?.abort();
    this.abort = new AbortController();
    try {
      const answer = await get("episodes", { text: this.input.value, outcome: this.outcome, first }, this.abort.signal);
      this.episodes = first ? [...this.episodes, ...answer.episodes] : answer.episodes;
      this.more = answer.more;
      this.#fill();
    } catch (error) {
      if (error.name !== "AbortError") this.options.failed(error);
    }
  }

  renew() {
    this.load();
  }

  show(id) {
    this.wanted = id;
    this.two.classList.toggle("opened", Boolean(id));
    const found = this.episodes.find((episode) => episode.id === id);
    if (found) this.#select(found);
  }

  #fill() {
    const words = this.input.value.trim().split(/\s+/).filter(Boolean);
    const options = this.episodes.map((episode) => h("a", { class: "episode-row", role: "option", href: `#/episodes/${episode.id}`, "aria-selected": String(episode.id === this.selected), tabindex: "-1" }, h("span", { class: `outcome ${episode.outcome}` }, glyph(OUTCOMES[episode.outcome] ?? "terminated"), h("span", { class: "unseen" }, episode.outcome)),
      h("span", { class: "task" }, marked(episode.task || "(no description)", words)), h("span", { class: "dim age" }, duration(episode.seconds * 1000)), h("span", { class: "dim where" }, h("span", {}, episode.outcome), h("span", { class: "mono" }, said(episode.agent)), h("span", {}, `${number(episode.actions.length)}${episode.actions.length === 100 ? "+" : ""} tool call${episode.actions.length === 1 ? "" : "s"}`)), h("span", { class: "dim age" }, `${ago(Date.parse(episode.created))} ago`)));
    const many = this.episodes.length;
    this.count.textContent = many === 0 ? "" : `${number(many)}${this.more ? "+" : ""} ${words.length ? "found, best first" : "newest first"}`;
    this.list.setAttribute("role", options.length === 0 ? "group" : "listbox");
    this.moreButton.hidden = !this.more;
    fill(this.list, options);
    if (this.episodes.length === 0) fill(this.list, h("p", { class: "empty" }, this.input.value || this.outcome ? "No episode fits." : "No episodes yet: a session leaves one when it is terminated."));
    const wanted = this.episodes.find((episode) => episode.id === (this.wanted ?? this.selected)) ?? this.episodes[0];
    if (wanted) this.#select(wanted); else this.detail.replaceChildren();
  }

  #select(episode) {
    this.selected = episode.id;
    for (const row of this.list.querySelectorAll("[role=option]")) row.setAttribute("aria-selected", String(row.getAttribute("href").endsWith(episode.id)));
    const pair = (name, ...held) => [h("dt", {}, name), h("dd", {}, held)];
    fill(this.detail, back("#/episodes", "all episodes"), h("h2", { class: `outcome ${episode.outcome}` }, glyph(OUTCOMES[episode.outcome] ?? "terminated"), h("span", {}, episode.outcome)), h("p", { class: "task-text" }, marked(episode.task || "(no description)", this.input.value.trim().split(/\s+/).filter(Boolean))),
      h("dl", { class: "pairs" }, pair("agent", h("a", { href: moment(episode.agent, episode.last) }, said(episode.agent), `@${episode.last}`)), pair("session", said(episode.session ?? "–", "mono")), pair("events", h("a", { href: moment(episode.agent, episode.first) }, `@${episode.first}`), " to ", h("a", { href: moment(episode.agent, episode.last) }, `@${episode.last}`)), pair("lasted", duration(episode.seconds * 1000)), pair("importance", String(episode.importance)), episode.tokens ? pair("tokens", number(episode.tokens)) : ""),
      episode.details !== null ? [h("h3", {}, "Details"), lines(parse(episode.details))] : "", episode.lessons.length ? [h("h3", {}, "Lessons"), h("ul", {}, episode.lessons.map((lesson) => h("li", {}, said(lesson))))] : "",
      episode.actions.length ? [h("h3", {}, `${number(episode.actions.length)} tool calls `, h("span", { class: "dim" }, "in order; each leads to its moment")), h("ol", { class: "calls" }, episode.actions.map(([tool, seq]) => h("li", {}, seq ? h("a", { href: moment(episode.agent, seq), title: `@${seq}` }, said(tool)) : h("span", {}, said(tool)))))] : "", h("h3", {}, "What was known at the end"), h("p", { class: "mid" }, said(episode.context)));
  }

  #key(event) {
    const at = this.episodes.findIndex((episode) => episode.id === this.selected);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.episodes.length - 1 }[event.key];
    if (to === undefined || !this.episodes[to]) return;
    event.preventDefault();
    event.stopPropagation();
    history.replaceState(null, "", `#/episodes/${this.episodes[to].id}`);
    this.wanted = null;
    this.#select(this.episodes[to]);
    this.list.querySelectorAll("[role=option]")[to].scrollIntoView({ block: "nearest" });
  }

  close() {}
}

/** A text in which the beginnings of words that were searched for are marked. */
function marked(text, words) {
  if (words.length === 0) return said(text);
  // Under the flag `u` only characters of the syntax may be escaped: `\-` or `\'` is an error.
  const found = new RegExp(`(?<![\\p{L}\\p{N}])(${words.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|")})`, "giu");
  return text.split(found).map((part, index) => (index % 2 ? h("mark", {}, said(part)) : said(part)));
}

// -- hosts and verify ---------------------------------------------------------------------------------------------------

const NUMBERS = new Set(["Behind", "Events", "Rate", "Version", "Process", "Agents", "In memory", "Lease"]);
const RATE_OF = 10_000; // ms over which a rate is taken
const LEVELS = ["lifecycle", "state", "activity", "trace"];
const HOST_ORDER = ["up", "client", "draining", "closed", "buried"];
const ALIVE = new Set(["up", "client", "draining"]);

export class HostsPage {
  constructor(options) {
    this.options = options;
    this.consumers = h("tbody");
    this.hosts = h("tbody");
    this.behind = h("span", { class: "dim" }, "reading …");
    this.up = h("span", { class: "dim" }, "reading …");
    this.positions = new Map();
    this.beats = new Map();
    const table = (label, names, body) => h("div", { class: "table", tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("caption", { class: "unseen" }, label), h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: NUMBERS.has(name) ? "number" : null }, name)))), body));
    this.element = h("section", { class: "hosts-page" }, h("h1", {}, "Consumers ", this.behind), table("Consumers", ["Name", "State", "Behind", "Partitions", "Events", "Rate", "Version", "Reads", "Stored"], this.consumers), h("h1", {}, "Hosts ", this.up), table("Hosts", ["Host", "State", "Agents", "In memory", "Lease", "Up for", "Process", "Agent types"], this.hosts));
    this.load();
    this.timer = setInterval(() => this.load(), 2000);
  }

  async load() {
    try {
      const answer = await get("hosts");
      this.#showConsumers(answer.consumers);
      this.#showHosts(answer.hosts, answer.beats);
    } catch (error) {
      this.options.failed(error);
    }
  }

  #showConsumers(consumers) {
    const rows = consumers.flatMap((consumer) => [...this.#consumer(consumer), ...(consumer.building ? this.#consumer(consumer.building, true) : [])]);
    fill(this.consumers, ...(rows.length ? rows : [h("tr", {}, h("td", { colspan: "9", class: "dim" }, "No projection was attached here yet: ", h("code", {}, "system.attach(projection, name)"), " does it."))]));
    const count = (words, fits) => { const many = consumers.filter(fits).length; return many ? `, ${number(many)} ${words}` : ""; };
    this.behind.textContent = consumers.length ? `${number(consumers.length)}${count("behind", (each) => each.lag > 0)}${count("stopped", (each) => each.status === "parked")}` : "";
  }

  #consumer(consumer, isBuilding = false) {
    const { error, lag } = consumer;
    const rate = this.#rate(`${consumer.name} ${consumer.version} ${isBuilding}`, consumer.position);
    const left = lag > 0 && rate > 0 && consumer.status !== "parked" ? ` · ${duration((lag / rate) * 1000)} to go` : "";
    const row = h("tr", { class: error ? "told" : null }, h("td", {}, isBuilding ? "└ being built" : said(consumer.name)), h("td", { class: "word" }, status(consumer.status.replace("_", " "), { parked: "failed", live: "running" }[consumer.status] ?? "partial"), left),
      h("td", { class: lag > 0 ? "number" : "number dim" }, number(lag)), h("td", {}, cells(consumer)), h("td", { class: "number" }, number(consumer.applied)), h("td", { class: "number" }, rate === null ? "–" : `${number(Math.round(rate))}/s`), h("td", { class: "number" }, number(consumer.version)), h("td", {}, said(scope(consumer.scope))), h("td", { class: "word" }, Date.parse(consumer.updated) > 0 ? `${ago(Date.parse(consumer.updated))} ago` : "not yet"));
    const why = error ? h("tr", { class: "why" }, h("td", { colspan: "9" }, h("span", { class: "failed" }, glyph("cross"), " ", h("b", {}, said(consumer.name)), " stopped"), error.agent ? [" at ", h("a", { href: moment(error.agent, error.seq) }, said(error.agent), `@${error.seq}`)] : "", ": ", said(error.error), "; ", said(error.advice))) : null;
    return why ? [row, why] : [row];
  }

  /** Appends a second, in the last seconds that this page has looked; null before it has looked twice. */
  #rate(key, position) {
    const now = performance.now();
    const known = (this.positions.get(key) ?? []).filter(([at]) => now - at <= RATE_OF);
    this.positions.set(key, [...known, [now, position]]);
    const [at, before] = known[0] ?? [now, position];
    return now - at < 1000 ? null : Math.max(0, ((position - before) * 1000) / (now - at));
  }

  #showHosts(hosts, [beat, lease]) {
    this.up.textContent = `${number(hosts.filter((each) => each.state === "up").length)} up; leases of ${lease} s`;
    hosts.sort((a, b) => HOST_ORDER.indexOf(a.state) - HOST_ORDER.indexOf(b.state));
    fill(this.hosts, ...hosts.map((host) => h("tr", { class: host.ended ? "dim" : null }, h("td", { class: "mono" }, host.host.slice(0, 12), host.self ? h("span", { class: "dim" }, " this inspector") : ""), h("td", { class: "word" }, status(host.state, { up: "running", draining: "paused" }[host.state] ?? "terminated"), host.ended ? ` ${ago(Date.parse(host.ended))} ago` : ""),
      h("td", { class: "number" }, number(host.claimed)), h("td", { class: "number" }, ALIVE.has(host.state) ? number(host.agents) : "–"), h("td", { class: "number" }, this.#lease(host, lease)), h("td", { class: "word" }, ALIVE.has(host.state) ? duration(host.beat * beat * 1000) : "–"), h("td", { class: "number" }, host.pid ?? "–"), h("td", {}, said(host.types.join(", ") || "–")))));
  }

  /** How much of a host's lease is left: its beat was first seen by this page so long ago. */
  #lease(host, lease) {
    if (!ALIVE.has(host.state)) return "–";
    const now = performance.now();
    const known = this.beats.get(host.host);
    const seen = known?.beat === host.beat ? known : { beat: host.beat, at: now, isFirst: known === undefined };
    this.beats.set(host.host, seen);
    const left = lease - (now - seen.at) / 1000;
    if (seen.isFirst && left > 0) return h("span", { class: "dim" }, "…"); // how long it had this beat before is not known
    return left > 0 ? `${Math.ceil(left)} s left` : h("span", { class: "failed" }, `over since ${duration(-left * 1000)}`);
  }

  close() {
    clearInterval(this.timer);
  }
}

/** What a consumer reads: its pattern of agents, and levels and types where it does not read all. */
function scope(text) {
  const parts = text.split(" ");
  const [types, levels] = [parts.pop(), parts.pop() ?? ""];
  const pattern = parts.join(" "); // a path may have spaces
  const named = [...levels].map((level) => LEVELS[level - 1]).filter(Boolean);
  return [pattern, named.length === LEVELS.length ? null : named.join(", "), types === "*" ? null : types.replaceAll(",", ", ")].filter(Boolean).join("; ");
}

/** How far behind the partitions are, a cell each; of many, a cell for several. */
function cells({ lags, partitions, stopped }) {
  const behind = lags.filter((lag) => lag > 0).length;
  return h("span", { class: "cells" }, h("span", { class: "unseen" }, behind ? `${behind} of ${lags.length} behind` : "none behind"), lags.map((lag, at) => h("i", { "aria-hidden": "true", class: at === stopped ? "stopped" : lag > 0 ? "behind" : null, title: `${partitions > lags.length ? `part ${at + 1} of ${lags.length}, of ${partitions} partitions` : `partition ${at + 1} of ${partitions}`}: ${number(lag)} behind` })));
}

const CHECKED = [
  ["events", "each against the chain of digests, and folded"],
  ["snapshots, checkpoints, keyframes, bases", "equal to the fold of the events before them"],
  ["feeds, directories, episodes, unfinished work", "as the logs have it"],
  ["views of durable consumers", "whole, as far as a view has a checksum or a form of its own"],
];

export class VerifyPage {
  constructor() {
    this.sentence = h("p", { class: "lead", role: "status" }, "Every event is checked against the chain of digests, folded, and compared with what is stored of it. Agents may run meanwhile.");
    this.bar = h("progress", { max: "1", value: "0", hidden: true, "aria-label": "Checked" });
    this.button = h("button", { type: "button", class: "button main", onclick: () => (this.source ? this.#end("stopped") : this.#start()) }, "Verify all agents");
    this.problems = h("div", {});
    this.element = h("section", { class: "verify-page" }, h("header", {}, h("h1", {}, "Verify ", h("span", { class: "dim" }, "every event against the chain of digests, every snapshot against the fold")), this.button), this.sentence, this.bar, this.problems);
  }

  #start() {
    this.problems.replaceChildren();
    this.bar.hidden = false;
    this.button.textContent = "Stop";
    this.source = new EventSource("/api/verify");
    this.source.addEventListener("progress", (message) => {
      const { agents, of, events, problems } = JSON.parse(message.data);
      this.bar.value = of ? agents / of : 0;
      this.sentence.textContent = `${number(agents)} of ${number(of)} agents, ${number(events)} events${problems ? `, ${problems} problems` : ""}`;
    });
    this.source.addEventListener("report", (message) => { this.#end(); this.#show(JSON.parse(message.data)); });
    this.source.addEventListener("lost", (message) => { this.#end(JSON.parse(message.data).message); });
    this.source.addEventListener("error", () => this.#end("the server is gone"));
  }

  #end(why) {
    this.source?.close();
    this.source = null;
    this.bar.hidden = true;
    this.button.textContent = "Verify all agents";
    if (why) this.sentence.textContent = `Not finished: ${why}.`;
  }

  #show(report) {
    fill(this.sentence, h("span", { class: report.ok ? "done" : "failed" }, glyph(report.ok ? "check" : "failed")), " ", report.ok ? `All ${number(report.events)} events of ${number(report.agents)} agents are as they were written.` : `${number(report.count)} problem${report.count === 1 ? "" : "s"} found.`);
    this.button.textContent = "Run again";
    if (report.ok) fill(this.problems, h("dl", { class: "pairs" }, CHECKED.map(([what, how]) => [h("dt", {}, what), h("dd", {}, how)])));
    const row = (each) => h("tr", {}, h("td", {}, each.agent ? h("a", { href: each.seq > 1 ? moment(each.agent, each.seq - 1) : place(each.agent) }, said(each.agent), `@${each.seq ?? ""}`) : "–"), h("td", {}, h("span", { class: "pill parked" }, each.kind)), h("td", { class: "mono short" }, said(each.expected)), h("td", { class: "mono short" }, said(each.actual)), h("td", {}, said(each.text)));
    if (report.problems.length) fill(this.problems, h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Problems" }, h("table", {}, h("thead", {}, h("tr", {}, ["Agent", "Kind", "Expected", "Actual", "What it means"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, report.problems.map(row)))));
  }

  close() {
    this.source?.close();
  }
}
