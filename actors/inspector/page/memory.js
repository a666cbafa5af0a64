// Working memory as a tree: what the event at this seq did is opened, tinted and signed.

import { child, full, isContainer, isWhole, loadChildren, lookup } from "./model.js";
import { glyph, h, number, said, setBy, size } from "./dom.js";
import { isCut } from "./long_values.js";

const SEPARATOR = "\u0000";
const MOST_ROWS = 1500;
const MOST_OPENED_BY_CHANGE = 40;
const MOST_BRIEF = 8;
const SIGNS = { added: "+", changed: "~", removed: "−" };
const WORDS = { added: "added", changed: "changed", removed: "removed" };

export class MemoryTree {
  /** `handlers`: `blame(path, seq, row)`, `trace(path)`, `go(seq)`. */
  constructor(handlers) {
    this.handlers = handlers;
    this.opened = new Set();
    this.shut = new Set();
    this.rows = new Map();
    this.order = [];
    this.current = null;
    this.element = h("div", { class: "tree", role: "tree", "aria-label": "Working memory", onkeydown: (event) => this.#key(event), onclick: (event) => this.#click(event) });
    this.element.addEventListener("focusin", (event) => { const row = event.target.closest("[role=treeitem]"); if (row) this.#focus(row.dataset.key, false); });
  }

  /** Show the state of a moment, as `AgentModel.at` gives it, of a log that begins after `base`. */
  show(agent, moment, base = 0) {
    if (this.agent !== agent) this.sticky = null;
    this.agent = agent;
    this.base = base;
    this.moment = moment;
    const changes = this.#changes(moment);
    const rows = [];
    this.#walk(moment.root, [], 0, changes, null, rows);
    this.#render(rows);
    return changes;
  }

  openAll() {
    this.shut.clear();
    const visit = (node, path) => {
      if (!isContainer(node) || this.opened.size > MOST_ROWS) return;
      if (path.length > 0) this.opened.add(path.join(SEPARATOR));
      const held = full(node);
      if (held.kids === null) return;
      for (const [key, entry] of held.$ === "dict" ? held.kids : held.kids.entries()) visit(entry.v, [...path, String(key)]);
    };
    visit(this.moment.root, []);
    this.show(this.agent, this.moment, this.base);
  }

  closeAll() {
    this.opened.clear();
    this.show(this.agent, this.moment, this.base);
  }

  #changes(moment) {
    const found = { at: new Map(), above: new Set(), below: new Map(), added: 0, changed: 0, removed: 0 };
    const last = new Map(moment.writes.map((write) => [write[0].join(SEPARATOR), write]));
    for (const [path, value, setter] of last.values()) {
      const old = moment.before === null ? undefined : lookup(moment.before.root, path);
      const kind = value === undefined ? "removed" : old === undefined ? "added" : "changed";
      if (kind === "removed" && old === undefined) continue;
      if (kind === "changed" && isEqual(old.v, value)) continue; // written again, and the same
      found[kind] += 1;
      if (path.length === 0) continue;
      const parent = path.slice(0, -1).join(SEPARATOR);
      found.at.set(path.join(SEPARATOR), { kind, old: old?.v });
      found.below.set(parent, [...(found.below.get(parent) ?? []), { key: path.at(-1), kind, value, setter, old }]);
      if (found.above.size < MOST_OPENED_BY_CHANGE) for (let length = 1; length < path.length; length += 1) found.above.add(path.slice(0, length).join(SEPARATOR));
    }
    // What an event opens stays open until the next one that writes: an activity between them closes nothing.
    if (found.at.size > 0) this.sticky = found.above;
    else if (this.sticky) found.above = this.sticky;
    return found;
  }

  #walk(node, path, depth, changes, inherited, rows) {
    const held = full(node);
    const here = path.join(SEPARATOR);
    if (held.kids === null) {
      rows.push({ key: `${here}${SEPARATOR}…`, path, depth, kind: "more", node, text: "loading …" });
      this.#load(path, node);
      return;
    }
    const all = held.$ === "dict" ? held.kids : held.kids.entries();
    const isList = held.$ === "list";
    const size = isList ? held.kids.length : held.kids.size;
    const touched = changes.below.get(here) ?? [];
    // Of a large container that only the event has opened, what the event did is shown, and the rest is counted.
    const isBrief = depth > 0 && size > MOST_BRIEF && !this.opened.has(here) && inherited === null;
    let left = 0;
    for (const [key, entry] of all) {
      if (rows.length >= MOST_ROWS) {
        rows.push({ key: "…", path, depth, kind: "note", text: `more than ${number(MOST_ROWS)} rows are open: close some` });
        return;
      }
      const where = [...path, String(key)];
      const id = where.join(SEPARATOR);
      const own = changes.at.get(id);
      if (isBrief && own === undefined && !changes.above.has(id)) { left += 1; continue; }
      if (left > 0) { rows.push(this.#others(here, path, depth, left, id)); left = 0; }
      const change = own?.kind ?? inherited;
      const holds = isContainer(entry.v) && entry.v.n > 0;
      const isOpen = holds && !this.shut.has(id) && (this.opened.has(id) || changes.above.has(id) || (own !== undefined && entry.v.n <= 12));
      rows.push({ key: id, path: where, depth, kind: "value", name: String(key), inList: isList, node: entry.v, setter: entry.s, change, old: own?.kind === "changed" && !isContainer(own.old) ? own : null, holds, isOpen, signed: own !== undefined });
      if (isOpen) this.#walk(entry.v, where, depth + 1, changes, change ?? null, rows);
    }
    if (left > 0) rows.push(this.#others(here, path, depth, left, ""));
    for (const { key, kind, value, setter, old } of touched) {
      if (isList ? held.kids[Number(key)] !== undefined : held.kids.has(key)) continue;
      const isGone = kind === "removed";
      if (isGone && old === undefined) continue;
      rows.push({ key: `${here}${here ? SEPARATOR : ""}${key}${isGone ? `${SEPARATOR}−` : ""}`, path: [...path, key], depth, kind: "value", name: key, inList: isList, node: isGone ? old.v : value, setter: isGone ? old.s : setter, change: kind, old: null, holds: false, isOpen: false, signed: true });
    }
    if (!isWhole(node) && !isBrief) rows.push({ key: `${here}${SEPARATOR}…`, path, depth, kind: "more", node, text: `${number(held.n - size)} more ${isList ? "entries" : "keys"}`, canAsk: true });
  }

  #others(here, path, depth, count, before) {
    return { key: `${here}${SEPARATOR}…${before}`, path, depth, kind: "others", opens: here, text: `… ${number(count)} other${count === 1 ? "" : "s"}`, canAsk: true };
  }

  async #load(path, node) {
    const { agent, moment } = this;
    try {
      await loadChildren(agent, moment.seq, path, node);
    } catch (error) {
      this.handlers.failed?.(error);
      return;
    }
    if (this.agent === agent && this.moment.seq === moment.seq) this.show(agent, this.moment, this.base);
  }

  // Rows whose content has not changed keep their elements, so that scroll, selection and focus stay.
  #render(rows) {
    const before = this.rows;
    this.rows = new Map();
    this.order = rows;
    let at = this.element.firstChild;
    for (const row of rows) {
      const known = before.get(row.key);
      const element = known !== undefined && isSame(known.row, row) ? known.element : this.#element(row);
      if (known !== undefined) before.delete(row.key);
      this.rows.set(row.key, { row, element });
      if (known !== undefined && known.element !== element) {
        if (at === known.element) at = known.element.nextSibling;
        known.element.replaceWith(element);
      } else if (element !== at) this.element.insertBefore(element, at);
      else at = at.nextSibling;
      if (element === at) at = at.nextSibling;
    }
    for (const { element } of before.values()) element.remove();
    this.element.setAttribute("role", rows.length === 0 ? "group" : "tree");
    if (rows.length === 0) this.element.replaceChildren(h("p", { class: "empty" }, "Nothing is in working memory at this moment."));
    else this.element.querySelector(":scope > .empty")?.remove();
    if (!this.rows.has(this.current)) this.current = rows[0]?.key ?? null;
    const focusable = this.rows.get(this.current);
    for (const { element } of this.rows.values()) element.tabIndex = -1;
    if (focusable) focusable.element.tabIndex = 0;
  }

  #element(row) {
    const indent = Math.min(row.depth, 10) * 14 + Math.max(row.depth - 10, 0) * 3;
    const shared = { role: "treeitem", "aria-level": Math.min(row.depth + 1, 64), "data-key": row.key, style: { "padding-left": `${12 + indent}px` } };
    if (row.kind !== "value") return h("div", { ...shared, class: "row more" }, row.canAsk ? h("button", { type: "button", class: "link", tabindex: "-1" }, row.text) : row.text);
    const sign = row.signed && row.change ? h("span", { class: "sign" }, SIGNS[row.change], h("span", { class: "unseen" }, ` ${WORDS[row.change]} `)) : null;
    return h("div", { ...shared, class: `row value${row.change ? ` ${row.change}` : ""}`, "aria-expanded": row.holds ? String(row.isOpen) : null },
      h("span", { class: "fold" }, row.holds ? glyph(row.isOpen ? "open" : "closed") : null), sign,
      h("span", { class: "name" }, said(row.name.length > 200 ? `${row.name.slice(0, 200)}…` : row.name), ": "),
      row.old ? [h("del", {}, value(row.old.old)), " "] : null,
      row.change === "removed" ? h("del", { class: "held" }, value(row.node)) : h("span", { class: "held" }, row.isOpen ? h("span", { class: "dim" }, brackets(row.node)) : value(row.node)),
      row.setter ? this.#setter(row.setter) : h("span", { class: "setter" }));
  }

  #setter(seq) {
    return h("button", { type: "button", class: "setter", tabindex: "-1", "aria-label": `set by event ${seq}${seq <= this.base ? " or before" : ""}: why` }, setBy(seq, this.base));
  }

  #click(event) {
    const element = event.target.closest("[role=treeitem]");
    if (!element) return;
    const { row } = this.rows.get(element.dataset.key);
    this.#focus(row.key, false);
    if (event.target.closest(".setter") && row.setter) this.handlers.blame(row, element);
    else this.#activate(row, element);
  }

  #activate(row, element) {
    if (row.kind === "more") this.#load(row.path, row.node);
    else if (row.kind === "others") { this.opened.add(row.opens); this.show(this.agent, this.moment, this.base); }
    else if (row.holds) this.#toggle(row);
    else this.handlers.look(row, element);
  }

  #toggle(row, open = !row.isOpen) {
    if (open) { this.opened.add(row.key); this.shut.delete(row.key); } else { this.opened.delete(row.key); this.shut.add(row.key); }
    this.show(this.agent, this.moment, this.base);
  }

  #focus(key, move = true) {
    const before = this.rows.get(this.current);
    if (before) before.element.tabIndex = -1;
    this.current = key;
    const now = this.rows.get(key);
    if (!now) return;
    now.element.tabIndex = 0;
    if (move) now.element.focus();
    if (now.row.kind === "value") this.handlers.trace?.(now.row.path);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const at = this.order.findIndex((row) => row.key === this.current);
    const row = this.order[at];
    if (row === undefined) return;
    const go = (to) => { if (this.order[to]) this.#focus(this.order[to].key); };
    const keys = {
      ArrowDown: () => go(at + 1),
      ArrowUp: () => go(at - 1),
      Home: () => go(0),
      End: () => go(this.order.length - 1),
      ArrowRight: () => (row.holds && !row.isOpen ? this.#toggle(row, true) : go(at + 1)),
      ArrowLeft: () => (row.isOpen ? this.#toggle(row, false) : go(this.order.findLastIndex((each, index) => index < at && each.depth < row.depth))),
      Enter: () => this.#activate(row, this.rows.get(row.key).element),
      " ": () => this.#activate(row, this.rows.get(row.key).element),
      b: () => row.setter && this.handlers.blame(row, this.rows.get(row.key).element),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  }
}

/** Whether two scalars are the same value of the same type. */
function isEqual(a, b) {
  if (isContainer(a) || isContainer(b)) return false;
  return Object.is(a, b) || (a !== null && b !== null && typeof a === "object" && typeof b === "object" && JSON.stringify(a) === JSON.stringify(b));
}

function isSame(a, b) {
  return a.node === b.node && full(a.node) === full(b.node) && a.setter === b.setter && a.change === b.change && a.isOpen === b.isOpen && a.signed === b.signed && a.old?.old === b.old?.old && a.text === b.text && a.depth === b.depth && a.kind === b.kind;
}

const brackets = (node) => (node.$ === "dict" ? `{${number(node.n)}}` : `[${number(node.n)}]`);

/** A value in a line. */
export function value(node) {
  if (node === null) return h("span", { class: "word-value" }, "null");
  if (typeof node === "boolean") return h("span", { class: "word-value" }, String(node));
  if (typeof node === "number") return h("span", { class: "number" }, String(node));
  if (typeof node === "string") return node === "" ? h("span", { class: "dim" }, '""') : said(oneLine(node), "text");
  if (node === undefined) return h("span", { class: "dim" }, "nothing");
  switch (node.$) {
    case "int": return h("span", { class: "number" }, node.v);
    case "float": return h("span", { class: "number" }, node.v);
    case "time": return h("span", { class: "number", title: "a time" }, node.v);
    case "bytes": return [h("span", { class: "number" }, `${node.v}${node.n > node.v.length / 2 ? "…" : ""}`), h("span", { class: "size" }, ` ${size(node.n)} bytes`)];
    case "content": return h("span", { class: "dim" }, `${node.v} of ${size(node.n)} bytes`);
    case "text": return [said(`${oneLine(node.v)}…`, "text"), h("span", { class: "size" }, ` ${size(node.n)} characters`)];
    default: return h("span", { class: "dim" }, brackets(node), " ", preview(node));
  }
}

const oneLine = (text) => text.slice(0, 400).replaceAll("\n", " ⏎ ");

/** The beginning of a container, in a line. */
function preview(node) {
  const held = full(node);
  if (held.kids === null || held.n === 0) return "";
  const parts = [];
  if (held.$ === "list") return "";
  for (const [key, entry] of held.kids) {
    if (parts.length >= 4) { parts.push("…"); break; }
    parts.push(`${key.slice(0, 40)}: ${brief(entry.v)}`);
  }
  return said(parts.join(", "));
}

function brief(node) {
  if (isContainer(node)) return node.$ === "dict" ? "{…}" : `[${node.n}]`;
  if (node !== null && typeof node === "object") return String(node.v).slice(0, 40);
  return typeof node === "string" ? oneLine(node.slice(0, 40)) : String(node);
}

/**
 * A value in lines, as JSON is written, for panels; at most `most` lines. `read(path, node)` is called to show a value
 * below it of which more can be read.
 */
export function lines(node, most = 60, read = null) {
  const found = [];
  const visit = (each, indent, before, after, path) => {
    if (found.length > most) return;
    const held = isContainer(each) ? full(each) : each;
    if (!isContainer(held)) { found.push([indent, before, each, after, path]); return; }
    const [left, right] = held.$ === "dict" ? ["{", "}"] : ["[", "]"];
    if (held.n === 0 || held.kids === null) { found.push([indent, `${before}${left}${held.n === 0 ? "" : ` ${number(held.n)} … `}${right}`, undefined, after]); return; }
    found.push([indent, `${before}${left}`, undefined, ""]);
    for (const [key, entry] of held.$ === "dict" ? held.kids : held.kids.entries()) visit(entry.v, indent + 1, held.$ === "dict" ? `${key}: ` : "", "", [...path, String(key)]);
    if (!isWhole(held)) found.push([indent + 1, `… ${number(held.n)} in all`, undefined, ""]);
    found.push([indent, right, undefined, after]);
  };
  visit(node, 0, "", "", []);
  const box = h("div", { class: "code", tabindex: "0", role: "group", "aria-label": "Value" });
  for (const [indent, text, leaf, , path] of found.slice(0, most)) {
    const more = read !== null && isCut(leaf) ? h("button", { type: "button", class: "link", onclick: () => read(path, leaf) }, "show all") : null;
    box.append(h("div", { style: { "padding-left": `${Math.min(indent, 20) * 12}px` } }, text ? said(text) : null, leaf === undefined ? null : longValue(leaf), more ? [" ", more] : null));
  }
  if (found.length > most) box.append(h("div", { class: "dim" }, "…"));
  return box;
}

function longValue(node) {
  if (typeof node === "string") return said(node, "text");
  if (node !== null && typeof node === "object" && node.$ === "text") return [said(node.v, "text"), h("span", { class: "size" }, ` … ${size(node.n)} characters`)];
  return value(node);
}

export { child };
