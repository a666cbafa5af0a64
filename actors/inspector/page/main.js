// The frame: the address, what is live, the keyboard, light and dark.

import { AgentPage } from "./agent.js";
import { AgentList, Rates } from "./agents.js";
import { get, listen, start } from "./api.js";
import { append, debounce, dialog, glyph, h, place } from "./dom.js";
import { EpisodesPage, HostsPage, VerifyPage } from "./places.js";
import { WorkPage } from "./work.js";

const PLACES = [["agents", "Agents"], ["work", "Work"], ["episodes", "Episodes"], ["hosts", "Hosts & consumers"], ["verify", "Verify"]];
const KEYS = [
  ["← →", "step to the append before, after"], ["Alt ← →", "step by event"], ["Shift ← →", "ten steps"], ["j k", "next, previous mark"], ["e Shift E", "next, previous error"], ["Home End", "first, last event"], ["Space", "play and stop"], ["+ −", "zoom; wheel zooms, Shift wheel pans"], ["t", "axis: time or seq"], ["#", "go to a seq"],
  ["a d", "mark A; compare"], ["b", "why a value is as it is"], [". ,", "next, previous change of the value"], ["c l", "conversation, log"], ["f", "go along with what arrives"], ["[", "list of agents"], ["/", "filter"], ["g a", "agents"], ["g w", "work"], ["g e", "episodes"], ["g h", "hosts and consumers"], ["g v", "verify"], ["Shift D", "light or dark"], ["Esc", "close, then up"],
];
const main = document.getElementById("main");
const banner = document.getElementById("banner");
let session = { actions: false };
let page = null;
let beside = null;
let rates = null;
let points = null;
let isLive = false;
let hasBeenLive = false;

// -- light and dark -----------------------------------------------------------------------------------------------------

function theme(next) {
  if (next) {
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem("duramen-theme", next); } catch { /* not kept, then */ }
  }
  dispatchEvent(new Event("duramen-theme"));
  page?.timeline?.draw();
}

function isDark() {
  const { theme: chosen } = document.documentElement.dataset;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// -- what went wrong ----------------------------------------------------------------------------------------------------

function show(kind, ...words) {
  banner.className = `banner ${kind}`;
  banner.hidden = false;
  banner.replaceChildren();
  append(banner, [words, h("span", { class: "grow" }), h("button", { type: "button", class: "tool", "aria-label": "Dismiss", onclick: () => { banner.hidden = true; } }, glyph("cross"))]);
}

const hideSoon = debounce(6000, () => { if (banner.classList.contains("note")) banner.hidden = true; });

function note(sentence) {
  show("note", sentence);
  hideSoon();
}

function failed(error) {
  if (error.code === 401) show("bad", "This page has no session any more: open the address that ", h("code", {}, "duramen inspect"), " has printed.");
  else if (error instanceof TypeError) live("offline");
  else if (error.name !== "AbortError") show("bad", error.message);
}

function live(state) {
  const was = isLive;
  isLive = state === "live";
  const element = document.getElementById("live");
  element.firstChild.className = `dot ${isLive ? "on" : "off"}`;
  element.lastChild.textContent = isLive ? "live" : "offline";
  document.body.classList.toggle("offline", !isLive);
  if (was && !isLive) show("bad", "The inspector does not answer. What is shown may be old; it goes on by itself when the connection is back.");
  if (was || !isLive) return;
  if (banner.classList.contains("bad")) banner.hidden = true;
  if (hasBeenLive) again(); // what was asked for in between has failed
  hasBeenLive = true;
}

// -- the address --------------------------------------------------------------------------------------------------------

function parse() {
  const [, name = "agents", ...rest] = location.hash.replace(/^#/, "").split("/");
  if (name !== "agent") return { name: PLACES.some(([key]) => key === name) ? name : "agents", rest: rest.join("/") };
  const found = /^(.*?)(?:@(\d{1,15})(?:\.\.(\d{1,15}))?)?$/.exec(rest.join("/"));
  const path = found[1].split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } }).join("/");
  return { name, path, from: found[2] ? Number(found[2]) : null, to: found[3] ? Number(found[3]) : null };
}

function route() {
  const asked = parse();
  const isAgent = asked.name === "agent";
  for (const link of document.getElementById("places").children) {
    if (link.dataset.place === (isAgent ? "agents" : asked.name)) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.querySelector(".float")?.remove();
  if (isLive) banner.hidden = true;
  if (isAgent && page instanceof AgentPage && page.path === asked.path) {
    page.moment(asked.from, asked.to);
    return;
  }
  if (!isAgent && page?.place === asked.name) { page.show?.(asked.rest); return; }
  page?.close();
  rates = null;
  const options = { failed, note, counted, actions: session.actions, recorded: session.recorded };
  if (isAgent) {
    page = new AgentPage(asked.path, options);
    page.moment(asked.from, asked.to);
    if (beside === null) {
      beside = new AgentList({ failed }, false);
      main.replaceChildren(beside.element, page.element);
    } else if (beside.element.isConnected) main.querySelector(".agent-page").replaceWith(page.element);
    else main.replaceChildren(beside.element, page.element);
    beside.select(asked.path);
  } else {
    if (asked.name === "agents") {
      page = new AgentList({ failed }, true);
      rates = session.recorded ? null : new Rates();
      if (points) rates.show(points);
      main.replaceChildren(h("div", { class: "stack" }, rates?.element, page.element));
    } else {
      page = new { work: WorkPage, episodes: EpisodesPage, hosts: HostsPage, verify: VerifyPage }[asked.name](options);
      main.replaceChildren(page.element);
      page.show?.(asked.rest);
    }
    page.place = asked.name;
  }
  main.classList.toggle("with-list", isAgent);
  document.title = isAgent ? `${asked.path} · duramen` : `${PLACES.find(([key]) => key === asked.name)[1]} · duramen`;
}

// -- the keyboard -------------------------------------------------------------------------------------------------------

let second = 0;
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.isComposing || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "Escape") {
    if (document.querySelector(".float")) document.querySelector(".float").remove();
    else if (typing) typing.blur();
    else if (page instanceof AgentPage) location.hash = page.range ? `#/agent/${page.path}@${page.range[1]}` : "#/agents";
    return;
  }
  if (typing) return;
  if (second && Date.now() - second < 1200) {
    second = 0;
    const to = { a: "agents", w: "work", e: "episodes", h: "hosts", v: "verify" }[event.key];
    if (to) { location.hash = `#/${to}`; event.preventDefault(); return; }
  }
  const own = {
    g: () => { second = Date.now(); }, D: () => theme(isDark() ? "light" : "dark"), "?": help, "[": () => main.classList.toggle("no-list"),
    "/": () => document.querySelector("main input[type=search]")?.focus(),
  };
  if (own[event.key]) own[event.key]();
  else if ((event.key === " " || event.key === "Enter") && event.target.closest("button, a, summary")) return;
  else if (!page?.keys?.(event)) return;
  event.preventDefault();
}

function help() {
  dialog("Keys", h("dl", { class: "keys" }, KEYS.map(([key, words]) => [h("dt", {}, key.split(" ").map((each) => [h("kbd", {}, each), " "])), h("dd", {}, words)])), h("p", { class: "dim" }, "In lists and trees: arrows, Home, End, Enter. No key acts on an agent."));
}

// -- the beginning ------------------------------------------------------------------------------------------------------

function changed(message) {
  if (page instanceof AgentList || page instanceof WorkPage) page.update(message);
  if (beside?.element.isConnected) beside.update(message);
  if (!(page instanceof WorkPage) && (message.many || message.agents.some((agent) => agent.work))) countSoon();
  if (page instanceof AgentPage) {
    const own = message.agents?.find((agent) => agent.path === page.path);
    if (own) page.update(own); else if (message.many) page.headSoon();
  }
}

function counted({ total, more }) {
  const link = document.querySelector("#places [data-place=work]");
  link.querySelector(".badge")?.remove();
  if (total > 0) link.append(h("span", { class: "badge" }, `${total}${more ? "+" : ""}`));
}

const countSoon = debounce(1000, () => countWork());

async function countWork() {
  const answer = await get("work", { most: 200 }).catch(() => null);
  if (answer) counted(answer);
}

function rated(message) {
  points = message.rates;
  rates?.show(points);
}

function again() {
  page?.renew?.();
  beside?.renew();
  countWork();
}

/** A page that needs no server: nothing arrives, and there are only the places that it has something for. */
function showRecorded() {
  for (const link of [...document.getElementById("places").children]) if (!session.places.includes(link.dataset.place)) link.remove();
  document.getElementById("live").textContent = `as of ${session.recorded.slice(0, 16).replace("T", " ")} UTC`;
  if (!location.hash) history.replaceState(null, "", place(session.namespace));
  route();
  if (session.places.includes("work")) countWork();
}

async function begin() {
  if (location.search && location.protocol !== "file:") history.replaceState(null, "", `/${location.hash}`); // the token does not stay in the address
  let chosen = null;
  try { chosen = localStorage.getItem("duramen-theme"); } catch { /* none */ }
  if (chosen) document.documentElement.dataset.theme = chosen;
  document.querySelector(".brand").prepend(glyph("rings"));
  document.getElementById("theme").append(glyph("theme"));
  document.getElementById("theme").addEventListener("click", () => theme(isDark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
  document.getElementById("help").addEventListener("click", help);
  document.getElementById("places").append(...PLACES.map(([key, label]) => h("a", { href: `#/${key}`, "data-place": key }, label.split(" & ")[0], label.includes(" & ") ? h("span", { class: "more-words" }, ` & ${label.split(" & ")[1]}`) : null)));
  addEventListener("keydown", keys);
  addEventListener("pointerdown", (event) => { if (!event.target.closest(".float")) document.querySelector(".float")?.remove(); });
  try {
    session = await start();
  } catch (error) {
    failed(error);
    main.replaceChildren(h("div", { class: "empty" }, h("p", {}, error.message)));
    return;
  }
  document.getElementById("namespace").textContent = session.namespace;
  document.getElementById("mode").textContent = session.recorded ? "recorded" : session.actions ? "actions on" : "read only";
  addEventListener("hashchange", route);
  if (session.recorded) { showRecorded(); return; }
  route();
  countWork();
  setInterval(() => { if (!document.hidden && !(page instanceof WorkPage)) countWork(); }, 10_000);
  listen({ state: live, hello: rated, reset: (message) => { rated(message); again(); }, changes: changed, beat: rated, lost: (message) => show("bad", message.message), refused: failed });
}

begin();
