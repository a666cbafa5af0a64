// Answers of a page that needs no server, made from the states of an agent: differences, and who set a value.

import { answers, eventOf, log } from "./recorded.js";
import { isCut } from "./long_values.js";
import { AgentModel, isContainer, lookup, parse } from "./model.js";

const MOST = 200;

answers.diff = async ({ agent, a, b }) => {
  const model = await modelAt(agent, a, b);
  const [old, now] = [model.at(a), model.at(b)];
  const rows = [];
  compare(old.root, now.root, [], rows);
  const counts = { added: 0, removed: 0, changed: 0 };
  for (const [kind] of rows) counts[kind] += 1;
  const end = (seq, state) => ({ seq, status: state.status, time: eventOf(agent, seq)?.time ?? null });
  const lifecycle = ["status", "session"].filter((name) => old[name] !== now[name]).map((name) => [name, old[name], now[name]]);
  return { agent, a: end(a, old), b: end(b, now), counts, rows: rows.slice(0, MOST), lifecycle };
};

answers.blame = async ({ agent, seq, path, property }) => {
  const model = await modelAt(agent, seq);
  const setter = lookup(model.at(seq).root, property === undefined ? JSON.parse(path) : property.split("/"))?.s ?? 0;
  const event = eventOf(agent, setter);
  return { agent, seq: setter, event: event ?? null, command: event?.command, tool: event?.tool, causes: event?.causes ?? [], carried: [] };
};

/** The beginning of a long value, as far as it was recorded. */
answers.long = async ({ agent, seq, of, path = "[]", property, first }) => {
  const root = of === "event" ? parse(eventOf(agent, seq)?.data ?? null) : (await modelAt(agent, seq)).at(seq).root;
  const node = lookup(root, [...(property ? property.split("/") : []), ...JSON.parse(path)])?.v;
  if (first > 0 || (typeof node !== "string" && !isCut(node)) || node.$ === "content") return answers.left();
  const part = typeof node === "string" ? node : node.v;
  return { first, next: part.length, length: node.n ?? part.length, part };
};

async function modelAt(agent, ...seqs) {
  const model = new AgentModel(agent);
  const { head } = log(agent);
  Object.assign(model, { head: head.seq, base: head.base });
  for (const seq of seqs) await model.load(seq);
  return model;
}

/** What differs, a row each; of a value that only one side has, one row for all of it. */
function compare(old, now, path, rows) {
  if (old === now) return;
  if (isContainer(old) && isContainer(now) && old.$ === now.$ && old.kids !== null && now.kids !== null) {
    for (const key of keysOf(old, now)) {
      const [before, after] = [old, now].map((node) => (node.$ === "dict" ? node.kids.get(key) : node.kids[key]));
      const where = [...path, String(key)];
      if (before === undefined) rows.push(["added", where.join("/"), written(after.v)]);
      else if (after === undefined) rows.push(["removed", where.join("/"), written(before.v)]);
      else compare(before.v, after.v, where, rows);
    }
  } else if (JSON.stringify(written(old)) !== JSON.stringify(written(now))) rows.push(["changed", path.join("/"), written(old), written(now)]);
}

function keysOf(old, now) {
  if (old.$ === "dict") return [...new Set([...old.kids.keys(), ...now.kids.keys()])].sort();
  return Array.from({ length: Math.max(old.kids.length, now.kids.length) }, (_, at) => at);
}

/** A node as the server sends it. */
function written(node) {
  if (!isContainer(node)) return node;
  const shell = { $: node.$, n: node.n };
  if (node.kids === null) return shell;
  return { ...shell, c: node.$ === "dict" ? [...node.kids].map(([key, { v, s }]) => [key, written(v), s]) : node.kids.map(({ v, s }) => [written(v), s]) };
}
