// The page: asks for the token once, reads the API, and shows one view at a time. No outside host, no markup from data.

import { clock, element, ms, number, put, when } from "./dom.js";
import * as fit from "./views/fit.js";
import * as now from "./views/now.js";
import * as plan from "./views/plan.js";
import * as points from "./views/points.js";
import * as savings from "./views/savings.js";
import * as tradeoffs from "./views/tradeoffs.js";
import * as whatif from "./views/whatif.js";

const VIEWS = { now, plan, "trade-offs": tradeoffs, fit, savings, "what-if": whatif, points };
const TOKEN = "setwise-token";
const EVERY_MS = 30_000;
const id = (name) => document.getElementById(name);

class SignInNeeded extends Error {}

function headers(more = {}) {
  const token = localStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

async function answered(answer) {
  let body = {};
  try { body = await answer.json(); } catch { /* an answer that is none: its code says what there is to say */ }
  if (answer.status === 401) throw new SignInNeeded(localStorage.getItem(TOKEN) ? body.message : "");
  if (!answer.ok) throw Object.assign(new Error(body.message || `the service answered ${answer.status}`), { body, code: answer.status });
  return body;
}

// What is not there yet (no plan, no calibration) is null.
async function ask(path) {
  const answer = await fetch(path, { headers: headers() });
  return answer.status === 404 ? null : answered(answer);
}

function fresh() { // crypto.randomUUID wants HTTPS, and a gateway may have none
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

async function send(method, path, body) {
  const more = { "Idempotency-Key": fresh(), ...(body ? { "Content-Type": "application/json" } : {}) };
  return answered(await fetch(path, { method, headers: headers(more), body: body ? JSON.stringify(body) : undefined }));
}

const page = {
  ask, send,
  status: null,
  me: null,
  mayAct: () => page.me !== null && page.me.role !== "viewer",
  now: () => ms(page.status?.now),
  refresh: () => refresh(),
  // Ask for a reason, do it, say what came of it, and look again.
  async act(title, text, work, done) {
    const why = await reason(title, text);
    if (why !== null) await page.attempt(() => work(why), done);
  },
  async attempt(work, done) {
    put(id("done"));
    put(id("problem"));
    try {
      await work();
      put(id("done"), done);
    } catch (error) {
      if (error instanceof SignInNeeded) { askToken(error.message); return; }
      put(id("problem"), `${error.message} ${error.body?.what_to_do || ""}`);
    }
    await refresh();
  },
};

function reason(title, text) {
  const dialog = id("reason");
  id("reason-title").textContent = title;
  id("reason-text").textContent = text;
  id("reason-why").value = "";
  dialog.returnValue = "leave";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "do" ? id("reason-why").value.trim() : null), { once: true });
  });
}

// -- the frame

function drawStatus(status) {
  clock.zone = status.time_zone;
  document.title = `${VIEWS[place().name].title} – ${status.title}`;
  id("title").textContent = status.title;
  id("clock").textContent = `${when(status.now)} (${status.time_zone})`;
  const badge = (text, kind) => element("li", { class: kind }, text);
  const silent = status.last_reading ? (ms(status.now) - ms(status.last_reading)) / 3.6e6 : Infinity;
  put(id("badges"),
    badge(`mode ${status.mode.mode}`, status.mode.mode === "auto" ? "good" : "warn"),
    badge(status.is_broker_connected ? "broker connected" : "broker away", status.is_broker_connected ? "good" : "bad"),
    badge(silent < 2 ? "data fresh" : silent === Infinity ? "no data yet" : `no data for ${number(silent, 2)} h`, silent < 2 ? "good" : "bad"),
    badge(status.origin === "optimised" ? "optimised plan" : "own schedule", status.origin === "optimised" ? "good" : "warn"),
    badge(status.calibration_made ? "calibrated" : "not calibrated", status.calibration_made ? "good" : "warn"),
    status.plan_waiting ? badge("a plan waits for you", "warn") : null,
    status.overrides.length ? badge(`${status.overrides.length} held by people`, "warn") : null,
    ...status.running.map((kind) => badge(`${kind} running`, "warn")),
    ...status.problems.map((text) => badge(text, "bad")));
}

function drawFrame() {
  id("sign-in").hidden = true;
  if (id("views").hidden) {
    id("views").hidden = false;
    drawNavigation();
  }
  id("view").hidden = false;
  id("sign-out").hidden = !localStorage.getItem(TOKEN);
  id("who").textContent = page.me ? `${page.me.name} (${page.me.role})` : "";
}

function drawNavigation() {
  const current = place().name;
  const links = Object.entries(VIEWS).map(([name, view]) =>
    element("li", {}, element("a", { href: `#${name}`, "aria-current": name === current ? "page" : null }, view.title)));
  const list = element("ul", {}, ...links);
  put(id("views"), list);
  const link = list.querySelector("[aria-current]"); // on a phone the row of views is wider than the screen
  list.scrollLeft = link.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
}

// -- one view at a time

let shown = null; // { name, view, handle }
let timer = null;
let turn = 0;

function place() {
  const [name, query] = location.hash.slice(1).split("?");
  return { name: name in VIEWS ? name : "now", query: new URLSearchParams(query || "") };
}

function open(name) {
  const root = element("div", { class: `view view-${name}` });
  const handle = VIEWS[name].build(root, page);
  put(id("view"), element("h2", { class: "unseen" }, VIEWS[name].title), root);
  shown = { name, handle };
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  const { name, query } = place();
  if (shown?.name !== name) delete id("view").dataset.shown;
  try {
    const view = VIEWS[name];
    const asked = Object.entries(view.asks || {});
    const [status, me, ...answers] = await Promise.all([
      ask("/v1/status"), page.me || ask("/v1/me"), ...asked.map(([, path]) => ask(path))]);
    if (mine !== turn) return; // the view was changed meanwhile
    page.status = status;
    page.me = me;
    drawStatus(status);
    drawFrame();
    if (shown?.name !== name) open(name);
    await shown.handle.update(Object.fromEntries(asked.map(([key], i) => [key, answers[i]])), query);
    if (mine !== turn) return;
    if (id("problem").dataset.of === "refresh") { put(id("problem")); delete id("problem").dataset.of; }
    id("view").dataset.shown = name;
    if (!performance.getEntriesByName("first-view").length) performance.mark("first-view");
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof SignInNeeded) { askToken(error.message); return; }
    console.warn(error);
    id("problem").dataset.of = "refresh";
    put(id("problem"), error instanceof TypeError && /fetch/i.test(error.message)
      ? "The service does not answer; what is shown may be old. Trying again." : `The service does not answer as expected: ${error.message}`);
  }
  timer = setTimeout(refresh, EVERY_MS);
}

function askToken(message) {
  shown = null;
  page.me = null;
  put(id("view"));
  put(id("badges"));
  put(id("done"));
  put(id("problem"));
  for (const name of ["views", "sign-out"]) id(name).hidden = true;
  id("who").textContent = "";
  id("sign-in").hidden = false;
  id("sign-in-error").textContent = message || "";
  id("token").focus();
}

id("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem(TOKEN, id("token").value.trim());
  id("token").value = "";
  refresh();
});
id("sign-out").addEventListener("click", () => { localStorage.removeItem(TOKEN); location.reload(); });
addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  const isOther = shown?.name !== place().name;
  drawNavigation();
  put(id("done"));
  if (isOther) { put(id("problem")); scrollTo(0, 0); }
  refresh();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && page.status) refresh(); });
drawNavigation();
refresh();
