// One agent's log in the page: windows of events, and the working memory at each of them.
//
// A state is a tree of nodes that never change: two states share what the events between them did not write. A
// container has `n` children, of which `kids` holds those that are here: a Map of key to {v, s}, value and the seq that
// set it; of a list, an array. `kids` is null where none was sent: `loaded` has them once they were asked for.

import { get, sizeOf } from "./api.js";

const WINDOW = 200;
const MOST_BYTES = 12_000_000; // of answers; in memory they take about three times as much
const MOST_FOLDED = 4;
const loaded = new WeakMap();

export const isContainer = (node) => node !== null && typeof node === "object" && (node.$ === "dict" || node.$ === "list");

/** The node with the children that were loaded for it. */
export const full = (node) => loaded.get(node) ?? node;

export function parse(node) {
  if (!isContainer(node)) return node;
  if (node.c === undefined) return { $: node.$, n: node.n, kids: node.n === 0 ? empty(node.$) : null };
  const kids = node.$ === "dict"
    ? new Map(node.c.map(([key, value, seq]) => [key, { v: parse(value), s: seq }]))
    : node.c.map(([value, seq]) => ({ v: parse(value), s: seq }));
  return { $: node.$, n: node.n, kids };
}

const empty = (kind) => (kind === "dict" ? new Map() : []);

/** The child at a key; undefined where there is none, or it is not here. */
export function child(node, key) {
  const held = full(node);
  if (!isContainer(held) || held.kids === null) return undefined;
  return held.$ === "dict" ? held.kids.get(key) : held.kids[Number(key)];
}

export function lookup(root, path) {
  let found = { v: root, s: 0 };
  for (const key of path) {
    found = child(found.v, key);
    if (found === undefined) return undefined;
  }
  return found;
}

const count = (node) => (node.$ === "dict" ? node.kids.size : node.kids.length);
export const isWhole = (node) => full(node).kids !== null && count(full(node)) === full(node).n;

/** A new root in which one write was done. What is not here is counted, and not shown. */
function write(root, path, value, setter, seq, isNew) {
  if (path.length === 0) return value === undefined ? { $: "dict", n: 0, kids: new Map() } : value;
  const held = full(root);
  if (!isContainer(held)) return root;
  const [key, ...rest] = path;
  const change = rest.length > 0 ? 0 : value === undefined ? -1 : isNew ? 1 : 0;
  if (held.kids === null) return { $: held.$, n: held.n + change, kids: null };
  const known = child(held, key);
  if (rest.length > 0) {
    if (known === undefined) return { ...held };
    return put(held, key, { v: write(known.v, rest, value, setter, seq, isNew), s: seq }, held.n);
  }
  if (value === undefined) return drop(held, key);
  if (known === undefined && !(isNew && isWhole(held))) return { ...held, n: held.n + change };
  return put(held, key, { v: value, s: setter }, held.n + change);
}

function put(held, key, entry, n) {
  if (held.$ === "dict") {
    const kids = new Map(held.kids);
    kids.set(key, entry);
    return { $: "dict", n, kids };
  }
  const kids = held.kids.slice();
  kids[Number(key)] = entry;
  return { $: "list", n, kids };
}

function drop(held, key) {
  if (held.$ === "dict") {
    const kids = new Map(held.kids);
    kids.delete(key);
    return { $: "dict", n: held.n - 1, kids };
  }
  const kids = held.kids.slice();
  if (Number(key) < kids.length) kids.splice(Number(key), 1);
  return { $: "list", n: held.n - 1, kids };
}

class Window {
  constructor(answer, bytes) {
    Object.assign(this, { from: answer.from, to: answer.to, head: answer.head, traced: answer.traced, bytes });
    this.events = answer.events.map((event) => ({ ...event, writes: event.writes.map(([path, value, seq, isNew]) => [path, value === undefined ? undefined : parse(value), seq, isNew === 1]) }));
    this.states = [{ root: parse(answer.state), status: answer.status, session: answer.session }];
  }

  get isFull() {
    return this.to - Math.floor(this.from / WINDOW) * WINDOW >= WINDOW;
  }

  /** Forget the states but the first: they are made again of the events. */
  unfold() {
    this.states.length = 1;
  }

  at(seq) {
    for (let next = this.states.length; next <= seq - this.from; next += 1) {
      const event = this.events[next - 1];
      const before = this.states[next - 1];
      let root = before.root;
      for (const [path, value, setter, isNew] of event.writes) root = write(root, path, value, setter, event.seq, isNew);
      this.states.push({ root, status: event.status ?? before.status, session: event.session ?? before.session });
    }
    return this.states[seq - this.from];
  }
}

export class AgentModel {
  constructor(agent) {
    this.agent = agent;
    this.head = 0;
    this.base = 0;
    this.isDamaged = false; // then the log ends before `answer.head`
    this.windows = new Map();
    this.folded = []; // the windows that may have all their states, the last used first
    this.under = new Map();
    this.wanted = null;
  }

  #key(seq) {
    return Math.max(this.base, Math.floor((Math.max(seq, 1) - 1) / WINDOW) * WINDOW);
  }

  #window(seq) {
    const held = this.windows.get(this.#key(seq));
    if (held === undefined || seq > held.to) return undefined;
    this.windows.delete(held.from);
    this.windows.set(held.from, held);
    return held;
  }

  /** State and event at a seq, with the state before; undefined where they were not loaded. */
  at(seq) {
    const held = this.#window(seq);
    if (held === undefined || seq < held.from) return undefined;
    if (this.folded[0] !== held) {
      this.folded = [held, ...this.folded.filter((each) => each !== held)];
      this.folded.splice(MOST_FOLDED).forEach((each) => each.unfold());
    }
    const state = held.at(seq);
    if (seq === held.from) return { seq, ...state, event: null, before: null, writes: [] };
    // What is told to have changed is what the whole append did until here: nobody has read a state inside of it.
    const start = Math.max(this.appendStart(seq), held.from + 1);
    const events = held.events.slice(start - held.from - 1, seq - held.from);
    return { seq, ...state, event: events.at(-1), before: held.at(start - 1), writes: events.flatMap((event) => event.writes) };
  }

  event(seq) {
    const held = this.#window(seq);
    return held === undefined || seq <= held.from ? undefined : held.events[seq - held.from - 1];
  }

  /** The last seq of the append that an event belongs to, or of the one before it: events of one append share a time. */
  appendEnd(seq, direction) {
    let at = Math.min(Math.max(seq + direction, this.base), this.head);
    if (direction < 0) return this.appendStart(seq) - 1 < this.base ? this.base : this.appendStart(seq) - 1;
    for (let event = this.event(at), next = this.event(at + 1); event && next && next.time === event.time && at < this.head; next = this.event(at + 1)) {
      at += 1;
      event = next;
    }
    return at;
  }

  appendStart(seq) {
    let at = seq;
    for (let event = this.event(at), before = this.event(at - 1); event && before && before.time === event.time; before = this.event(at - 1)) {
      at -= 1;
      event = before;
    }
    return at;
  }

  /** Load the window of a seq. Only the last one that was wanted is waited for; others arrive when they do. */
  async load(seq) {
    const key = this.#key(seq);
    const held = this.windows.get(key);
    if (held !== undefined && seq <= held.to) return;
    let under = this.under.get(key);
    if (under === undefined) {
      under = this.#fetch(seq).finally(() => this.under.delete(key));
      this.under.set(key, under);
    }
    await under;
  }

  async #fetch(seq) {
    const answer = await get("window", { agent: this.agent, seq });
    this.base = answer.base;
    if (!this.isDamaged) this.head = Math.max(this.head, answer.head);
    const made = new Window(answer, sizeOf(answer));
    const known = this.windows.get(made.from);
    if (known !== undefined && known.to > made.to) return;
    this.windows.set(made.from, made);
    let total = 0;
    for (const each of this.windows.values()) total += each.bytes;
    for (const [from, each] of this.windows) {
      if (total <= MOST_BYTES || this.windows.size <= 3) break;
      total -= each.bytes;
      this.windows.delete(from);
    }
  }

  /** Load what lies around, so that the next steps need no request. */
  prefetch(seq) {
    for (const near of [seq + WINDOW, seq - WINDOW]) {
      if (near > this.base && near - WINDOW < this.head) this.load(Math.min(near, this.head)).catch(() => {});
    }
  }

  /** Forget windows whose setters were not known when they were made. */
  dropUntraced() {
    for (const [from, each] of this.windows) if (!each.traced) this.windows.delete(from);
  }
}

/** Load the children of a container that are not here: the next hundred. */
export async function loadChildren(agent, seq, path, node) {
  const held = full(node);
  const first = held.kids === null ? 0 : count(held);
  const answer = await get("state", { agent, seq, path: JSON.stringify(path), first });
  const more = parse(answer.node);
  if (!isContainer(more) || more.$ !== held.$) return;
  const kids = held.$ === "dict" ? new Map([...(held.kids ?? []), ...(more.kids ?? [])]) : [...(held.kids ?? []), ...(more.kids ?? [])];
  loaded.set(node, { $: held.$, n: held.n, kids });
}
