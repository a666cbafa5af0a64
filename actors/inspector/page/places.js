// Diff, episodes, hosts and consumers, verify.

import { get } from "./api.js";
import { ago, debounce, duration, fill, glyph, h, moment, number, place, said } from "./dom.js";
import { lines } from "./memory.js";
import { parse } from "./model.js";

const KINDS = { added: ["+", "added"], changed: ["~", "changed"], removed: ["−", "removed"] };

export class DiffView {
  constructor(path, [a, b], handlers) {
    this.body = h("div", { class: "diff-rows" }, h("p", { class: "dim" }, "…"));
    this.counts = h("span", { class: "changed" });
    this.filter = h("input", { type: "search", placeholder: "Filter paths", "aria-label": "Filter paths", oninput: () => this.#fill() });
    this.ends = h("div", { class: "diff-ends" });
    this.path = path;
    this.element = h("section", { class: "diff", "aria-label": "What differs" }, h("header", {}, h("h2", {}, "What differs"), this.counts, h("span", { class: "grow" }), h("label", { class: "filter" }, glyph("search"), this.filter), h("button", { type: "button", class: "button", onclick: handlers.close }, "Close")), this.ends, this.body);
    get("diff", { agent: path, a, b }).then((answer) => { this.answer = answer; this.#show(); }, (error) => { fill(this.body, h("p", { class: "failed" }, error.message)); handlers.failed(error); });
  }

  #show() {
    const { a, b, counts } = this.answer;
    fill(this.counts, ...Object.entries(KINDS).map(([kind, [sign]]) => h("span", { class: counts[kind] ? kind : "dim" }, `${sign} ${number(counts[kind])} `)));
    const end = (name, at) => h("div", {}, h("span", { class: "flag" }, name), h("a", { href: moment(this.path, at.seq) }, `@${at.seq}`), h("span", { class: "dim" }, at.time ? ` ${at.time.slice(0, 23).replace("T", " ")}` : "", ` ${at.status}`));
    fill(this.ends, end("A", a), end("B", b));
    this.#fill();
  }

  #fill() {
    if (!this.answer) return;
    const wanted = this.filter.value.toLowerCase();
    const rows = [...this.answer.lifecycle.map(([name, old, now]) => ["changed", name, old, now, true]), ...this.answer.rows].filter((row) => row[1].toLowerCase().includes(wanted));
    const total = Object.values(this.answer.counts).reduce((sum, each) => sum + each, 0);
    fill(this.body, ...rows.map((row) => this.#row(row)), total > this.answer.rows.length ? h("p", { class: "dim" }, `${number(total - this.answer.rows.length)} more differences: filter, or compare moments that are closer`) : "", rows.length === 0 ? h("p", { class: "empty" }, total === 0 ? "Nothing differs in working memory." : "No path fits the filter.") : "");
  }

  #row([kind, where, first, second, isLifecycle]) {
    const [sign, word] = KINDS[kind];
    const show = (node) => (node === null && kind !== "changed" ? h("p", { class: "dim" }, "not shown: too much") : lines(parse(node), 24));
    return h("div", { class: `diff-row ${kind}` }, h("div", { class: "diff-path" }, h("span", { class: "sign" }, sign, h("span", { class: "unseen" }, ` ${word} `)), isLifecycle ? h("span", { class: "dim" }, where) : said(where, "mono")),
      h("div", { class: "half a" }, kind === "added" ? null : show(first)), h("div", { class: "half b" }, kind === "removed" ? null : show(kind === "changed" ? second : first)));
  }
}

const OUTCOMES = { success: "check", failure: "cross", partial: "partial" };

export class EpisodesPage {
  constructor(options) {
    Object.assign(this, { options, outcome: "", episodes: [], selected: null });
    this.input = h("input", { type: "search", placeholder: "Search in task, lessons, outcome and context", "aria-label": "Search episodes", oninput: debounce(150, () => this.load()) });
    this.outcomes = h("div", { class: "statuses", role: "group", "aria-label": "Outcome" }, [["", "All"], ["success", "Success"], ["failure", "Failure"], ["partial", "Partial"]].map(([key, label]) => h("button", { type: "button", "aria-pressed": String(key === ""), "data-outcome": key, onclick: () => { this.outcome = key; for (const each of this.outcomes.children) each.setAttribute("aria-pressed", String(each.dataset.outcome === key)); this.load(); } }, label)));
    this.list = h("div", { role: "listbox", "aria-label": "Episodes", tabindex: "0", onkeydown: (event) => this.#key(event) });
    this.moreButton = h("button", { type: "button", class: "button", onclick: () => this.load(this.episodes.length) }, "More");
    this.detail = h("article", { class: "episode", tabindex: "0", "aria-label": "Episode" });
    this.element = h("section", { class: "episodes-page" }, h("h1", { class: "unseen" }, "Episodes"), h("div", { class: "filters" }, h("label", { class: "filter" }, glyph("search"), this.input, h("kbd", { "aria-hidden": "true" }, "/")), this.outcomes), h("div", { class: "two" }, h("div", { class: "episode-list" }, this.list, this.moreButton), this.detail));
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

  show(id) {
    this.wanted = id;
    const found = this.episodes.find((episode) => episode.id === id);
    if (found) this.#select(found);
  }

  #fill() {
    const options = this.episodes.map((episode) => h("a", { class: "episode-row", role: "option", href: `#/episodes/${episode.id}`, "aria-selected": String(episode.id === this.selected), tabindex: "-1" }, h("span", { class: `outcome ${episode.outcome}` }, glyph(OUTCOMES[episode.outcome] ?? "terminated"), h("span", { class: "unseen" }, episode.outcome)),
      h("span", { class: "task" }, said(episode.task || "(no description)")), h("span", { class: "dim" }, duration(episode.seconds * 1000)), h("span", { class: "dim mono where" }, said(episode.agent), `@${episode.first}–${episode.last}`), h("span", { class: "dim" }, ago(Date.parse(episode.created)))));
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
    fill(this.detail, h("h2", {}, glyph(OUTCOMES[episode.outcome] ?? "terminated"), " ", episode.outcome), h("p", { class: "task-text" }, said(episode.task || "(no description)")),
      h("dl", { class: "pairs" }, pair("agent", h("a", { href: moment(episode.agent, episode.last) }, said(episode.agent), `@${episode.last}`)), pair("session", said(episode.session ?? "–", "mono")), pair("events", h("a", { href: moment(episode.agent, episode.first) }, `@${episode.first}`), " to ", h("a", { href: moment(episode.agent, episode.last) }, `@${episode.last}`)), pair("lasted", duration(episode.seconds * 1000)), pair("importance", String(episode.importance)), episode.tokens ? pair("tokens", number(episode.tokens)) : ""),
      episode.details !== null ? [h("h3", {}, "Details"), lines(parse(episode.details))] : "", episode.lessons.length ? [h("h3", {}, "Lessons"), h("ul", {}, episode.lessons.map((lesson) => h("li", {}, said(lesson))))] : "",
      episode.actions.length ? [h("h3", {}, "Tool calls"), h("ol", { class: "calls" }, episode.actions.map(([tool, seq]) => h("li", {}, seq ? h("a", { href: moment(episode.agent, seq) }, said(tool), h("span", { class: "setter" }, `@${seq}`)) : said(tool))))] : "", h("h3", {}, "Context"), h("p", {}, said(episode.context)));
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

export class HostsPage {
  constructor(options) {
    this.options = options;
    this.consumers = h("tbody");
    this.hosts = h("tbody");
    const table = (label, names, body) => h("div", { class: "table", tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("caption", { class: "unseen" }, label), h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), body));
    this.element = h("section", { class: "hosts-page" }, h("h1", {}, "Consumers"), table("Consumers", ["Name", "State", "Behind", "Events", "View", "Of", "Stored"], this.consumers), h("h1", {}, "Hosts"), table("Hosts", ["Host", "State", "Process", "Agents in memory", "Agent types"], this.hosts));
    this.load();
    this.timer = setInterval(() => this.load(), 2000);
  }

  async load() {
    try {
      const answer = await get("hosts");
      const rows = answer.consumers.flatMap((consumer) => [this.#consumer(consumer), ...(consumer.building ? [this.#consumer(consumer.building, true)] : [])]);
      fill(this.consumers, ...(rows.length ? rows : [h("tr", {}, h("td", { colspan: "7", class: "dim" }, "No projection was attached here yet: ", h("code", {}, "system.attach(projection, name)"), " does it."))]));
      const order = ["up", "client", "draining", "closed", "buried"];
      fill(this.hosts, ...answer.hosts.sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state)).map((host) => h("tr", { class: host.ended ? "dim" : null }, h("td", { class: "mono" }, host.host.slice(0, 12), host.self ? h("span", { class: "dim" }, " this inspector") : ""), h("td", {}, host.state, host.ended ? ` ${ago(Date.parse(host.ended))} ago` : ""), h("td", { class: "number" }, host.pid ?? "–"), h("td", { class: "number" }, number(host.agents)), h("td", {}, said(host.types.join(", ") || "–")))));
    } catch (error) {
      this.options.failed(error);
    }
  }

  #consumer(consumer, isBuilding = false) {
    const { error } = consumer;
    return h("tr", { class: consumer.status }, h("td", {}, isBuilding ? "└ being built" : said(consumer.name)), h("td", {}, consumer.status === "parked" ? h("span", { class: "failed" }, glyph("cross"), " parked") : consumer.status.replace("_", " "), error ? h("div", { class: "failed" }, error.error, error.agent ? [" at ", h("a", { href: moment(error.agent, error.seq) }, said(error.agent), `@${error.seq}`)] : "", ": ", said(error.advice)) : ""),
      h("td", { class: "number" }, number(consumer.lag)), h("td", { class: "number" }, number(consumer.applied)), h("td", {}, `version ${consumer.version}`), h("td", {}, said(consumer.scope)), h("td", {}, `${ago(Date.parse(consumer.updated))} ago`));
  }

  close() {
    clearInterval(this.timer);
  }
}

export class VerifyPage {
  constructor() {
    this.sentence = h("p", { class: "lead", role: "status" }, "Every event is checked against the chain of digests, folded, and compared with what is stored of it. Agents may run meanwhile.");
    this.bar = h("progress", { max: "1", value: "0", hidden: true, "aria-label": "Checked" });
    this.button = h("button", { type: "button", class: "button main", onclick: () => (this.source ? this.#end("stopped") : this.#start()) }, "Verify all agents");
    this.problems = h("div", {});
    this.element = h("section", { class: "verify-page" }, h("h1", {}, "Verify"), this.sentence, this.bar, h("p", {}, this.button), this.problems);
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
    fill(this.sentence, report.ok ? glyph("check") : glyph("cross"), " ", report.ok ? `All ${number(report.events)} events of ${number(report.agents)} agents are as they were written.` : `${number(report.count)} problem${report.count === 1 ? "" : "s"} found.`);
    fill(this.problems, ...report.problems.map((each) => h("div", { class: "problem" }, h("h2", {}, each.kind), h("p", {}, each.agent ? h("a", { href: each.seq > 1 ? moment(each.agent, each.seq - 1) : place(each.agent) }, said(each.agent), `@${each.seq ?? ""}`) : ""), h("p", {}, said(each.text)), h("dl", { class: "pairs" }, h("dt", {}, "expected"), h("dd", { class: "mono" }, said(String(each.expected))), h("dt", {}, "actual"), h("dd", { class: "mono" }, said(String(each.actual)))))));
  }

  close() {
    this.source?.close();
  }
}
