// The timeline: density over a canvas, lanes of marks, a playhead to drag. A slider for the keyboard.

import { clock, duration, glyph, h, number } from "./dom.js";

const DENSITY = 44;
const LANE = 14;
const AXIS = 20;
const GUTTER = 84;
const SNAP = 6;
const LANES = ["lifecycle", "messages", "tools", "errors"];
const LABELS = { tools: "steps, tools" };

export class Timeline {
  /** `handlers`: `go(seq)`, `range(from, to)`. */
  constructor(handlers) {
    this.handlers = handlers;
    this.data = null;
    this.seq = 0;
    this.range = null;
    this.trace = [];
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.labels = h("div", { class: "lanes", "aria-hidden": "true" });
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.element = h("div", { class: "track", role: "slider", tabindex: "0", "aria-label": "Moment", "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" }, this.labels, this.canvas, this.tip);
    this.element.addEventListener("pointerdown", (event) => this.#down(event));
    this.element.addEventListener("pointermove", (event) => this.#move(event));
    this.element.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
  }

  /** What the server says of the range that is shown. */
  show(data) {
    this.data = data;
    this.marks = LANES.flatMap((lane) => (data.lanes[lane] ?? []).map((mark) => ({ lane, place: mark[0], seq: mark[1], kind: mark[2], label: mark[3], end: mark[4], count: mark[5] })));
    this.marks.sort((a, b) => a.seq - b.seq);
    this.lanes = LANES.filter((lane) => data.lanes[lane]?.length > 0);
    this.labels.replaceChildren(h("span", { style: { height: `${DENSITY}px`, "line-height": `${DENSITY}px` } }, "events"), ...this.lanes.map((lane) => h("span", { style: { height: `${LANE}px` } }, LABELS[lane] ?? lane)));
    this.canvas.style.setProperty("height", `${DENSITY + LANE * this.lanes.length + AXIS}px`);
    this.draw();
  }

  /** Move the playhead; `trace` are seqs to mark with ▲, `range` the two ends of a diff. */
  set({ seq = this.seq, head = this.head, text = "", range = this.range, trace = this.trace }) {
    Object.assign(this, { seq, head, range, trace });
    this.element.setAttribute("aria-valuemax", String(head ?? 0));
    this.element.setAttribute("aria-valuenow", String(seq));
    this.element.setAttribute("aria-valuetext", `event ${seq} of ${head}${text ? `: ${text}` : ""}`);
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  /** The next or the previous mark, of the errors alone where asked. */
  mark(direction, lane = null) {
    const marks = this.marks?.filter((mark) => (lane === null ? mark.lane !== "errors" : mark.lane === lane)) ?? [];
    return direction > 0 ? marks.find((mark) => mark.seq > this.seq) : marks.findLast((mark) => mark.seq < this.seq);
  }

  /** Where an event lies, 0 to 1. */
  place(seq) {
    const { data } = this;
    if (data === null || data.bins.length === 0 || seq < data.from) return 0;
    if (seq > data.to) return 1;
    if (data.places) return data.places[seq - data.from];
    let low = 0;
    let high = data.bins.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (data.bins[middle][1] <= seq) low = middle; else high = middle - 1;
    }
    const [bin, first, count] = data.bins[low];
    return (bin + (seq - first + 0.5) / count) / 600;
  }

  /** The event nearest to a place. */
  seqAt(place) {
    const { data } = this;
    if (data === null || data.bins.length === 0) return 0;
    let low = data.from;
    let high = data.to;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.place(middle) < place) low = middle + 1; else high = middle;
    }
    return low > data.from && Math.abs(this.place(low - 1) - place) < Math.abs(this.place(low) - place) ? low - 1 : low;
  }

  #width() {
    return Math.max(this.element.clientWidth - this.#gutter() - 12, 50);
  }

  #gutter() {
    return this.element.clientWidth < 560 ? 12 : GUTTER;
  }

  #placeOf(event) {
    return (event.clientX - this.element.getBoundingClientRect().left - this.#gutter()) / this.#width();
  }

  #hit(event) {
    const y = event.clientY - this.canvas.getBoundingClientRect().top;
    const lane = this.lanes?.[Math.floor((y - DENSITY) / LANE)];
    if (lane === undefined || y < DENSITY) return null;
    const place = this.#placeOf(event);
    let best = null;
    for (const mark of this.marks) {
      if (mark.lane !== lane) continue;
      const inside = mark.end !== null && place >= mark.place && place <= mark.end;
      const far = inside ? 0 : Math.abs(mark.place - place) * this.#width();
      if (far <= SNAP && (best === null || far < best.far)) best = { far, mark };
    }
    return best?.mark ?? null;
  }

  #down(event) {
    if (event.button !== 0 || this.data === null) return;
    this.element.focus();
    this.element.setPointerCapture(event.pointerId);
    const hit = this.#hit(event);
    this.handlers.go(hit ? hit.seq : this.seqAt(this.#placeOf(event)), true);
    const move = (moved) => this.handlers.go(this.seqAt(Math.min(Math.max(this.#placeOf(moved), 0), 1)), true);
    const up = () => {
      this.element.removeEventListener("pointermove", move);
      this.handlers.rest?.();
    };
    this.element.addEventListener("pointermove", move);
    this.element.addEventListener("pointerup", up, { once: true });
    this.element.addEventListener("pointercancel", up, { once: true });
  }

  #move(event) {
    if (this.data === null || event.pointerType !== "mouse") return;
    const hit = this.#hit(event);
    const seq = hit ? hit.seq : this.seqAt(this.#placeOf(event));
    this.tip.hidden = false;
    this.tip.textContent = hit ? `@${seq} ${hit.kind}${hit.label ? ` ${hit.label}` : ""}${hit.count > 1 ? `, and ${hit.count - 1} more` : ""}` : `@${seq}`;
    const box = this.element.getBoundingClientRect();
    this.tip.style.setProperty("left", `${Math.min(Math.max(event.clientX - box.left, 20), box.width - 120)}px`);
  }

  #wheel(event) {
    if (this.data === null || event.ctrlKey) return;
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(Math.sign(event.deltaX || event.deltaY));
    else this.zoom(event.deltaY < 0 ? 1 : -1, this.seqAt(this.#placeOf(event)));
  }

  zoom(direction, around = this.seq) {
    if (this.data === null) return;
    const span = this.data.to - this.data.from + 1;
    const next = Math.max(20, Math.round(direction > 0 ? span / 1.6 : span * 1.6));
    const share = (around - this.data.from) / span;
    const from = Math.round(around - next * share);
    this.handlers.range(from, from + next - 1);
  }

  pan(direction) {
    const span = this.data.to - this.data.from + 1;
    const step = Math.max(1, Math.round(span / 8)) * direction;
    this.handlers.range(this.data.from + step, this.data.to + step);
  }

  draw() {
    const { canvas, data } = this;
    if (data === null || !canvas.isConnected) return;
    const gutter = this.#gutter();
    const width = this.#width();
    const height = DENSITY + LANE * this.lanes.length + AXIS;
    const scale = devicePixelRatio || 1;
    const full = width + gutter + 12;
    if (canvas.width !== Math.round(full * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(full * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.setProperty("width", `${full}px`);
    }
    this.labels.hidden = gutter < GUTTER;
    const pen = canvas.getContext("2d");
    const colour = colours(canvas);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, full, height);
    const x = (place) => gutter + place * width;
    const at = x(this.place(this.seq));
    if (this.range) {
      const [a, b] = this.range.map((seq) => x(this.place(seq)));
      pen.fillStyle = colour.tint;
      pen.fillRect(a, 0, b - a, height - AXIS);
    }
    const most = Math.max(1, ...data.bins.map((bin) => bin[2]));
    const thick = Math.max(1.5, Math.min(3, width / 600));
    for (const [bin, first, many, failed] of data.bins) {
      const tall = 3 + (DENSITY - 10) * Math.sqrt(many / most);
      pen.fillStyle = this.#isPast(first) ? colour.past : colour.future;
      pen.fillRect(x((bin + 0.5) / 600) - thick / 2, DENSITY - tall, thick, tall);
      if (failed > 0 && this.#isPast(first)) {
        pen.fillStyle = colour.red;
        pen.fillRect(x((bin + 0.5) / 600) - thick / 2, DENSITY - 3, thick, 3);
      }
    }
    pen.font = `11px ${colour.font}`;
    pen.textAlign = "center";
    for (const [place, long] of data.gaps) {
      const wide = pen.measureText(duration(long / 1000)).width + 6;
      pen.fillStyle = this.range && x(place) > x(this.place(this.range[0])) && x(place) < x(this.place(this.range[1])) ? colour.tint : colour.surface;
      pen.fillRect(x(place) - 8, DENSITY - 5, 16, 6);
      pen.fillRect(x(place) - wide / 2, DENSITY - 25, wide, 14);
      pen.fillStyle = colour.dim;
      pen.fillText("//", x(place), DENSITY - 1);
      pen.fillText(duration(long / 1000), x(place), DENSITY - 14);
    }
    pen.fillStyle = colour.line;
    for (let lane = 0; lane <= this.lanes.length; lane += 1) pen.fillRect(gutter, DENSITY + lane * LANE, width, lane === 0 ? 1 : 0.5);
    for (const mark of this.marks) this.#mark(pen, mark, x, colour);
    pen.fillStyle = colour.ink3;
    let edge = -100;
    const span = data.ticks.length > 1 ? data.ticks.at(-1)[1] - data.ticks[0][1] : 0;
    for (const [place, time] of data.ticks) {
      const text = span < 20_000_000 ? clock(time, true).slice(0, span < 2_000_000 ? 12 : 10) : clock(time);
      const wide = pen.measureText(text).width;
      const left = Math.min(Math.max(x(place), gutter + wide / 2), gutter + width - wide / 2);
      if (left - wide / 2 > edge + 12) { pen.fillText(text, left, height - 6); edge = left + wide / 2; }
    }
    pen.fillStyle = colour.accent;
    for (const seq of this.trace) {
      if (seq < data.from || seq > data.to) continue;
      triangle(pen, x(this.place(seq)), DENSITY + 6);
    }
    if (this.range) for (const [name, seq] of [["A", this.range[0]], ["B", this.range[1]]]) flag(pen, x(this.place(seq)), name, height, colour);
    else {
      pen.fillRect(at - 1, 6, 2, height - AXIS - 4);
      pen.beginPath();
      pen.moveTo(at - 6, 0); pen.lineTo(at + 6, 0); pen.lineTo(at + 6, 7); pen.lineTo(at, 12); pen.lineTo(at - 6, 7);
      pen.fill();
    }
  }

  /** Whether an event lies in what is looked at: before the playhead, or between the two ends of a difference. */
  #isPast(seq) {
    return seq <= this.seq && (this.range === null || seq >= this.range[0]);
  }

  #mark(pen, mark, x, colour) {
    const lane = this.lanes.indexOf(mark.lane);
    if (lane < 0) return;
    const y = DENSITY + lane * LANE + LANE / 2 + 0.5;
    const left = x(mark.place);
    const isPast = this.#isPast(mark.seq);
    const red = mark.kind === "failed" || mark.lane === "errors";
    pen.fillStyle = pen.strokeStyle = !isPast ? colour.future : red ? colour.red : mark.lane === "tools" ? colour.blue : colour.ink;
    pen.lineWidth = 1.4;
    if (mark.lane === "tools") {
      const wide = Math.max(5, (mark.end === null ? mark.place : mark.end) * this.#width() - mark.place * this.#width());
      pen.beginPath();
      pen.roundRect(left - 1, y - 3, wide, 6, 2);
      pen.fill();
    } else if (mark.lane === "errors") {
      pen.beginPath();
      pen.moveTo(left - 3, y - 3); pen.lineTo(left + 3, y + 3); pen.moveTo(left + 3, y - 3); pen.lineTo(left - 3, y + 3);
      pen.lineWidth = 2;
      pen.stroke();
    } else if (mark.lane === "messages") {
      pen.beginPath();
      pen.arc(left, y, 3, 0, 7);
      if (mark.kind === "user") { pen.fillStyle = colour.surface; pen.fill(); pen.stroke(); } else pen.fill();
    } else if (mark.kind === "checkpoint") {
      pen.fillRect(left - 3, y - 5, 1.3, 10);
      pen.beginPath();
      pen.moveTo(left - 2, y - 5); pen.lineTo(left + 5, y - 2.5); pen.lineTo(left - 2, y); pen.fill();
    } else {
      pen.beginPath();
      pen.moveTo(left, y - 4); pen.lineTo(left + 4, y); pen.lineTo(left, y + 4); pen.lineTo(left - 4, y);
      pen.fill();
    }
  }
}

function triangle(pen, x, y) {
  pen.beginPath();
  pen.moveTo(x - 4, y); pen.lineTo(x + 4, y); pen.lineTo(x, y - 7);
  pen.fill();
}

function flag(pen, x, name, height, colour) {
  pen.fillStyle = colour.ink;
  pen.fillRect(x - 0.75, 0, 1.5, height - AXIS);
  pen.fillRect(x - 7, 0, 14, 14);
  pen.fillStyle = colour.surface;
  pen.font = `600 10px ${colour.font}`;
  pen.fillText(name, x, 10.5);
}

let cached = null;
addEventListener("duramen-theme", () => { cached = null; });

function colours(element) {
  if (cached) return cached;
  const style = getComputedStyle(element);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  cached = { past: named("past"), future: named("future"), red: named("red"), blue: named("blue"), ink: named("ink-2"), ink3: named("ink-3"), dim: named("ink-3"), line: named("line"), accent: named("accent"), tint: named("accent-tint"), surface: named("surface"), font: style.fontFamily };
  return cached;
}

/** The buttons above the timeline. */
export function transport(handlers) {
  const button = (name, label, call) => h("button", { type: "button", class: `tool ${name}`, "aria-label": label, title: label, onclick: call }, glyph(name));
  const play = button("play", "Play (space)", handlers.play);
  const seq = h("b", { class: "seq" });
  const of = h("span", { class: "dim" });
  const title = h("span", { class: "title" });
  const speed = h("button", { type: "button", class: "tool text", title: "Speed of playing", onclick: handlers.speed }, "1×");
  const axis = h("button", { type: "button", class: "tool text", title: "Axis: time or seq (t)", onclick: handlers.axis }, "by time");
  const follow = h("button", { type: "button", class: "tool text", title: "Go along with what arrives (f)", "aria-pressed": "false", onclick: handlers.follow }, "Follow");
  const element = h("div", { class: "transport" },
    h("span", { class: "buttons" }, button("first", "First event (Home)", handlers.first), button("back", "Back (←)", handlers.back), play, button("next", "Next (→)", handlers.next), button("last", "Last event (End)", handlers.last)),
    h("span", { class: "where" }, seq, " ", of), title,
    h("span", { class: "side" }, speed, h("button", { type: "button", class: "tool text", "aria-label": "Zoom out", title: "Zoom out (−)", onclick: handlers.out }, "−"), h("button", { type: "button", class: "tool text", "aria-label": "Zoom in", title: "Zoom in (+)", onclick: handlers.in }, "+"), axis, follow));
  return {
    element,
    set({ at, head, event, range, playing, speed: times, byTime, following }) {
      seq.textContent = number(at);
      of.textContent = `of ${number(head)}`;
      title.replaceChildren(...(range ? [`from ${number(range[0])} to ${number(range[1])}`] : event ? [h("b", {}, event.type), " ", h("span", { class: "dim" }, event.title, event.detail ? `: ${event.detail}` : "")] : []));
      play.replaceChildren(glyph(playing ? "stop" : "play"));
      play.setAttribute("aria-label", playing ? "Stop (space)" : "Play (space)");
      speed.textContent = `${times}×`;
      axis.textContent = byTime ? "by time" : "by seq";
      follow.setAttribute("aria-pressed", String(following));
    },
  };
}
