// In the place of api.js in a page that needs no server: what it answers with lies in the page.

export class Refused extends Error {
  constructor(kind, message, code) {
    super(message);
    this.kind = kind;
    this.code = code;
  }
}

const recorded = JSON.parse(document.getElementById("recorded").textContent);
const WINDOW = 200;

/** By name: what makes an answer. `recorded_answers.js` adds those that need the states of an agent. */
export const answers = {
  agents: ({ text = "", status = "", closed = "", first = 0, count = 100 }) => listed(text, status, new Set(closed.split("\n")), first, count),
  conversation: ({ agent, seq, before }) => conversation(log(agent).conversation, seq, before),
  episodes: ({ text = "", outcome = "", first = 0 }) => ({ text, more: false, episodes: first ? [] : recorded.episodes.filter((each) => (!outcome || each.outcome === outcome) && text.toLowerCase().split(/\s+/).every((word) => JSON.stringify(each).toLowerCase().includes(word))) }),
  event: ({ agent, seq }) => eventOf(agent, seq) ?? refuse("PathNotFound", `${agent} has no event ${seq} here`, 404),
  head: ({ agent }) => log(agent).head,
  left: () => refuse("NotRecorded", "This page has only what was in sight: `duramen inspect` shows all of it.", 400),
  record: ({ agent, work }) => recorded.records.find((each) => each.agent === agent && each.work === work) ?? refuse("PathNotFound", `${agent} has no work ${work} here`, 404),
  timeline: ({ agent, axis, from, to }) => zoomed(log(agent).timelines[axis], from, to),
  window: ({ agent, seq }) => windowOf(agent, seq),
  work: () => ({ work: recorded.work, total: recorded.work.length, more: false, oldest: recorded.work.map((each) => each.since).sort()[0] ?? null }),
};

export async function start() {
  return recorded.session;
}

export async function get(name, asked = {}) {
  return (answers[name] ?? answers.left)(asked);
}

export const sizeOf = () => 100_000;

export async function act() {
  refuse("NotRecorded", "This is a recording.", 400);
}

export function listen() {}

export function log(agent) {
  return Object.hasOwn(recorded.logs, agent) ? recorded.logs[agent] : refuse("AgentNotFound", `This page does not have the agent ${agent}.`, 404);
}

export function eventOf(agent, seq) {
  const { head, events } = log(agent);
  return events[seq - head.base - 1];
}

function refuse(kind, message, code) {
  throw new Refused(kind, message, code);
}

function windowOf(agent, seq) {
  const { head, windows } = log(agent);
  const from = Math.max(head.base, Math.floor((Math.max(seq, 1) - 1) / WINDOW) * WINDOW);
  return windows.find((each) => each.from === from) ?? refuse("PathNotFound", `${agent} has no event ${seq} here`, 404);
}

function conversation({ messages, places, counts }, seq, before) {
  const count = counts.findLast(([from]) => from <= seq)?.[1] ?? 0;
  const end = before === undefined ? count : Math.min(before, count);
  const first = Math.max(0, end - 50);
  const at = (place) => ({ ...messages[places[place].findLast(([from]) => from <= seq)[1]], at: place });
  return { seq, count, first, messages: Array.from({ length: end - first }, (_, index) => at(first + index)) };
}

function listed(text, status, closed, first, count) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (row) => words.every((word) => {
    const [name, value] = word.split(":");
    if (name === "status" && value !== undefined) return row.status === value;
    if (name === "type" && value !== undefined) return (row.type ?? "").toLowerCase() === value;
    return row.path.toLowerCase().includes(word);
  });
  const found = recorded.agents.filter(fits);
  const counts = { all: found.length };
  for (const row of found) counts[row.status] = (counts[row.status] ?? 0) + 1;
  const rows = [];
  for (const row of found) {
    if (status && row.status !== status) continue;
    const project = row.path.split("/")[0];
    if (rows[0]?.path !== project) rows.unshift({ path: project, depth: 0, below: true, closed: closed.has(project), agents: found.length });
    if ([...closed].some((path) => path && row.path.startsWith(`${path}/`))) continue;
    rows.push({ ...row, below: found.some((each) => each.path.startsWith(`${row.path}/`)), closed: closed.has(row.path), activity: null });
  }
  return { total: rows.length, first, reading: false, counts, rows: rows.slice(first, first + count) };
}

/** A part of the timeline: what lies in it, moved to where it is drawn. */
function zoomed(whole, from, to) {
  if (from === undefined || to === undefined) return whole;
  const placeOf = (seq) => (whole.places ? whole.places[seq - whole.from] : ((whole.bins.findLast((bin) => bin[1] <= seq)?.[0] ?? 0) + 0.5) / 600);
  const low = placeOf(from);
  const scale = 0.98 / Math.max(placeOf(to) - low, 1e-9);
  const moved = (place) => 0.01 + (place - low) * scale;
  const inside = (place) => place >= 0 && place <= 1;
  const bins = whole.bins.map(([bin, first, many, failed]) => [bin, Math.max(first, from), Math.min(first + many - 1, to) - Math.max(first, from) + 1, failed]);
  return {
    ...whole, from, to,
    bins: bins.filter((bin) => bin[2] > 0).map(([bin, ...rest]) => [Math.min(599, Math.max(0, Math.floor(moved((bin + 0.5) / 600) * 600))), ...rest]),
    places: whole.places ? whole.places.slice(from - whole.from, to - whole.from + 1).map(moved) : null,
    gaps: whole.gaps.map(([place, long]) => [moved(place), long]).filter(([place]) => inside(place)),
    ticks: whole.ticks.map(([place, time]) => [moved(place), time]).filter(([place]) => inside(place)),
    lanes: Object.fromEntries(Object.entries(whole.lanes).map(([name, marks]) => [name, marks.filter((mark) => mark[1] >= from && mark[1] <= to).map(([place, seq, kind, label, end, count]) => [moved(place), seq, kind, label, end === null ? null : Math.min(1, moved(end)), count])])),
  };
}
