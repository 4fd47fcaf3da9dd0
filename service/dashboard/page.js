// The page: asks for the token once, reads the API, draws. No outside host, no library, no markup from data.

import { element, legend, number, scatter, timeChart, zoneChart } from "./charts.js";

const TOKEN = "setwise-token";
const EVERY_MS = 30_000;
const id = (name) => document.getElementById(name);
let timer = null;
let zone = "UTC";
let last = {};

class SignInNeeded extends Error {}

async function ask(path) {
  const token = localStorage.getItem(TOKEN);
  const answer = await fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (answer.status === 404) return null;
  const body = await answer.json();
  if (answer.status === 401) throw new SignInNeeded(token ? body.message : "");
  if (!answer.ok) throw new Error(body.message);
  return body;
}

const ms = (text) => (text ? Date.parse(text) : NaN);
const when = (text) => text ? new Date(text).toLocaleString("en-GB", { timeZone: zone, weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }) : "–";
const words = (name) => name.replaceAll("_", " ").replace("co2", "CO₂");
const share = (value) => Number.isFinite(value) ? `${(value * 100).toFixed(1)} %` : "–";
const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "");
const put = (node, ...children) => id(node).replaceChildren(...children.filter(Boolean));
const widthOf = (node) => Math.max(280, id(node).clientWidth);

// Powers are large and shares are small; people read kW and percent.
const UNITS = { W: ["kW", 1e-3], "kg/kg": ["g/kg", 1e3], 1: ["%", 100], degC: ["°C", 1], "m3/h.m2": ["m³/h·m²", 1] };
const scaled = (value, unit) => (UNITS[unit] ? value * UNITS[unit][1] : value);
const unitName = (unit) => (UNITS[unit] ? UNITS[unit][0] : unit);
const scaledAll = (block) => block.values.map((v) => (v === null ? NaN : scaled(v, block.unit)));

function figure(name, value, unit, note) {
  const row = element("div", {}, element("dt", {}, name), element("dd", {}, value, " ", element("small", {}, unit)));
  if (note) row.append(element("dd", { class: "quiet" }, note));
  return row;
}

function table(heads, rows) {
  const isNumber = (column) => rows.length > 0 && typeof rows[0][column] === "number";
  const head = element("tr", {}, ...heads.map((h, i) => element("th", isNumber(i) ? { scope: "col", class: "number" } : { scope: "col" }, h)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((c) =>
    c instanceof Node ? element("td", {}, c) : element("td", typeof c === "number" ? { class: "number" } : {}, typeof c === "number" ? number(c) : String(c)))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function drawStatus(status) {
  document.title = `setwise: ${status.building}`;
  id("title").textContent = status.title;
  id("clock").textContent = `${when(status.now)} (${status.time_zone})`;
  const badge = (text, kind) => element("li", { class: kind }, text);
  const silent = status.last_reading ? (ms(status.now) - ms(status.last_reading)) / 3.6e6 : Infinity;
  put("badges",
    badge(status.is_broker_connected ? "broker connected" : "broker away", status.is_broker_connected ? "good" : "bad"),
    badge(silent < 2 ? "data fresh" : silent === Infinity ? "no data yet" : `no data for ${number(silent, 2)} h`, silent < 2 ? "good" : "bad"),
    badge(status.origin === "optimised" ? "optimised plan" : "own schedule", status.origin === "optimised" ? "good" : "warn"),
    badge(status.calibration_made ? "calibrated" : "not calibrated", status.calibration_made ? "good" : "warn"),
    ...status.running.map((kind) => badge(`${kind} running`, "warn")),
    ...status.problems.map((text) => badge(text, "bad")));
  const tone = { done: "good", running: "warn", refused: "warn" };
  put("jobs", status.jobs.length ? table(["Job", "Started", "Outcome"], status.jobs.map((j) => [
    j.kind, when(j.started), element("span", { class: tone[j.outcome] || "bad" }, j.outcome, j.log && j.outcome !== "done" ? `: ${j.log.trim().split("\n").at(-1)}` : "")]))
    : element("p", { class: "quiet" }, "No job has run yet."));
  put("refusals", status.refusals.length ? table(["Refused messages", "Count", "Last"], status.refusals.map((r) => [words(r.reason), r.n, `${when(r.last)} ${r.topic} ${r.detail}`]))
    : element("p", { class: "quiet" }, "No message was refused."));
}

function drawSetpoints(setpoints) {
  put("setpoints", ...setpoints.settings.map((s) => figure(words(s.variable), number(scaled(s.value, s.unit)), unitName(s.unit),
    s.published ? `${s.published}, until ${new Date(s.valid_until).toLocaleTimeString("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" })}` : "not sent")));
  const source = setpoints.origin === "optimised" ? `From the plan of ${when(setpoints.plan_issued)}.` : "From the building's own schedule.";
  const mode = setpoints.mode === "advise" ? " Advice only: nothing is published." : "";
  id("setpoints-why").textContent = `${source}${mode} ${setpoints.notes.map(sentence).join(" ")}`;
}

const OBJECTIVES = { energy: ["HVAC energy", "kWh"], discomfort: ["Discomfort", "K·h per zone"], co2_excess: ["CO₂ excess", "ppm·h per zone"], moisture_risk: ["Moisture risk", "share·h"] };

function drawPromise(plan) {
  if (!plan) {
    put("promise");
    id("promise-why").textContent = "No plan yet. A search runs on its cadence, or when asked: POST /v1/plans.";
    return;
  }
  const { predicted = {}, references = {}, saving = {}, baseline, reason = "", forecast = {}, outside = [] } = plan.meta;
  const today = references[baseline] || {};
  const rows = Number.isFinite(saving[baseline]) ? [figure("energy saved", share(saving[baseline]), "", "against the own schedule")] : [];
  for (const [name, value] of Object.entries(predicted)) {
    const [title, unit] = OBJECTIVES[name] || [words(name), ""];
    rows.push(figure(title, number(value), unit, Number.isFinite(today[name]) ? `own schedule ${number(today[name])}` : ""));
  }
  put("promise", ...rows);
  const weather = forecast.outdoor_air_temperature ? ` Weather: ${forecast.outdoor_air_temperature}.` : "";
  const state = plan.is_in_force ? "" : " This plan is no longer in force.";
  id("promise-why").textContent = `${when(plan.start)} to ${when(plan.end)}. ${sentence(reason)}${weather}${state} ${outside.map((text) => sentence(words(text))).join(" ")}`;
}

function drawZones(zones) {
  const values = zones.zones.flatMap((z) => [z.low, z.high, ...(z.air_temperature === null ? [] : [z.air_temperature])]);
  const rows = zones.zones.map((z) => ({
    name: words(z.zone), value: z.air_temperature ?? NaN, low: z.low, high: z.high, state: zones.is_occupied === false && z.state !== "unknown" ? "dot" : z.state,
    note: z.co2 === null ? "–" : `${number(Math.round(z.co2), 4)} ppm`,
  }));
  const presence = zones.is_occupied === null ? "Occupancy is not known." : zones.is_occupied ? "People are in." : "Nobody is in: the band does not count now.";
  const n = (state) => zones.zones.filter((z) => z.state === state).length;
  id("zones-why").textContent = `${presence} Of ${zones.zones.length} zones ${n("ok")} inside the band, ${n("cold")} colder, ${n("warm")} warmer, ${n("unknown")} without a fresh reading. Dots: air temperature; right: CO₂.`;
  put("zones", zoneChart({ title: "Air temperature of every zone against its comfort band", rows, width: widthOf("zones"), unit: "°C",
    lowest: Math.floor(Math.min(...values) - 1), highest: Math.ceil(Math.max(...values) + 1) }),
  legend([["comfort band now", "band", "fill"]]));
}

async function drawFit() {
  const variable = id("fit-variable").value;
  if (!variable) return;
  const now = ms(last.status.now);
  const start = encodeURIComponent(new Date(now - 7 * 24 * 3.6e6).toISOString());
  const ahead = encodeURIComponent(new Date(now + 2 * 24 * 3.6e6).toISOString());
  const name = encodeURIComponent(variable);
  const [measured, predicted] = await Promise.all([
    ask(`/v1/series?variable=${name}&start=${start}`), ask(`/v1/series?variable=${name}&start=${start}&end=${ahead}&kind=predicted`)]);
  const line = (answer, kind) => ({ times: answer.stamps.map(ms), values: scaledAll(answer.series[variable]), kind });
  const lines = [line(predicted, "predicted"), line(measured, "measured")];
  const block = predicted.series[variable];
  const end = (values) => (values || []).map((v) => (v === null ? NaN : scaled(v, block.unit)));
  const bands = block.low ? [{ times: lines[0].times, low: end(block.low), high: end(block.high), kind: "predicted" }] : [];
  put("fit", timeChart({ title: `${words(variable)}, measured and predicted`, lines, bands, zone, now, unit: unitName(measured.series[variable].unit), width: widthOf("fit"), height: 260 }),
    legend([["measured", "measured"], ["predicted", "predicted"], ...(bands.length ? [["9 hours of 10 expected here", "spread", "fill"]] : [])]));
  const pairs = new Map(lines[0].times.map((t, i) => [t, lines[0].values[i]]));
  const errors = lines[1].times.map((t, i) => lines[1].values[i] - (pairs.get(t) ?? NaN)).filter(Number.isFinite);
  const rmse = Math.sqrt(errors.reduce((sum, e) => sum + e * e, 0) / errors.length);
  id("fit-why").textContent = errors.length
    ? `Root mean square of measured minus predicted: ${number(rmse, 2)} ${unitName(measured.series[variable].unit)} over ${errors.length} hours. The prediction of an hour is the newest one made.`
    : "Predictions come with the first plan.";
}

function drawFront(front) {
  if (!front) { put("front"); id("front-why").textContent = "No search has run yet."; return; }
  const others = Object.keys(front.objectives).filter((n) => n !== "energy");
  const choice = id("front-objective");
  if (choice.options.length !== others.length) choice.replaceChildren(...others.map((n) => element("option", { value: n }, (OBJECTIVES[n] || [words(n)])[0])));
  const against = choice.value || others[0];
  const title = (n) => { const [name, unit] = OBJECTIVES[n] || [words(n), front.objectives[n]]; return `${name} [${unit}]`; };
  const tell = (v) => Object.entries(v).map(([n, x]) => `${(OBJECTIVES[n] || [n])[0]}: ${number(x)}`).join(", ");
  const dots = front.points.filter((p) => p.is_feasible && !p.is_chosen).map((p) => ({ x: p.values[against], y: p.values.energy, kind: "dot", title: tell(p.values) }));
  for (const [name, v] of Object.entries(front.references)) {
    if (name === front.baseline) dots.push({ x: v[against], y: v.energy, kind: "own", title: `own schedule. ${tell(v)}` });
  }
  dots.push(...front.points.filter((p) => p.is_chosen).map((p) => ({ x: p.values[against], y: p.values.energy, kind: "chosen", title: `chosen. ${tell(p.values)}` })));
  put("front", scatter({ title: "Plans that no other plan beats", points: dots, xName: title(against), yName: title("energy"), width: widthOf("front") }),
    legend([["possible", "dot", "dot"], ["chosen", "chosen", "dot"], ["own schedule", "own", "own"]]));
  id("front-why").textContent = `${front.points.length} plans that no other plan beats, as predicted on ${when(front.made)}. Less is better on both axes.`;
}

function drawWeek(plan) {
  if (!plan) { put("week", element("p", { class: "quiet" }, "No plan yet.")); return; }
  const times = plan.stamps.map(ms);
  const step = plan.step_min * 60_000;
  const values = (name) => (plan.settings[name] ? scaledAll(plan.settings[name]) : null);
  const on = values("system_on") || [];
  const shades = [];
  on.forEach((v, i) => {
    if (v <= 0) return;
    const open = shades.at(-1);
    if (open && open[1] === times[i]) open[1] = times[i] + step; else shades.push([times[i], times[i] + step]);
  });
  const now = ms(last.status.now);
  const common = { shades, zone, now, width: widthOf("week"), isStepped: true };
  const line = (name, kind) => (values(name) ? [{ times, values: values(name), kind }] : []);
  put("week",
    timeChart({ ...common, title: "Heating and cooling setpoints of the coming week", lines: [...line("heating_setpoint", "heat"), ...line("cooling_setpoint", "cool")], unit: "°C", height: 150 }),
    timeChart({ ...common, title: "Supply air temperature", isNowNamed: false, lines: line("supply_air_temperature", "supply"), unit: "°C supply air", height: 105 }),
    timeChart({ ...common, title: "Outdoor air", isNowNamed: false, lines: line("outdoor_air_flow", "air"), unit: "m³/h·m² outdoor air", height: 105, includeZero: true }),
    legend([["heating", "heat"], ["cooling", "cool"], ["supply air", "supply"], ["outdoor air", "air"], ["system on", "on", "fill"]]));
}

function drawCalibration(answer) {
  const shown = answer.accepted || answer.last;
  if (!shown) {
    id("calibration-verdict").textContent = "None yet: plans would use the default parameters.";
    put("calibration");
    return;
  }
  const refused = answer.accepted && answer.last.state === "refused"
    ? ` The last try (${when(answer.last.made)}) was refused and changes nothing: ${(answer.last.calibration.refusals || []).join("; ")}.` : "";
  const c = shown.calibration;
  const reasons = shown.state === "refused" ? ` ${(c.refusals || []).join("; ")}.` : "";
  id("calibration-verdict").textContent = `${shown.state === "accepted" ? "Accepted" : "Refused"}, made ${when(shown.made)}.${reasons}${refused}`;
  const energy = (c.energy || []).map((e) => [words(e.name), share(e.cv_rmse), share(e.nmbe), e.is_judged ? (e.passes ? "passes" : "fails") : "not judged"]);
  const parameters = (c.spreads || []).map((p) => [words(p.name), p.value, `${number(p.low)} … ${number(p.high)}`, p.state]);
  put("calibration",
    energy.length ? table(["On hours held out", "CV(RMSE)", "NMBE", "Guideline 14"], energy) : null,
    parameters.length ? table(["Parameter", "Value", "Within", "Known"], parameters) : null);
}

function fillVariables(points) {
  const choice = id("fit-variable");
  if (choice.options.length) return;
  const order = { consumption: 0, indoor: 1 };
  const shown = points.filter((p) => p.role in order).sort((a, b) => order[a.role] - order[b.role]);
  choice.replaceChildren(...shown.map((p) => element("option", { value: p.variable }, words(p.variable))));
  const preferred = shown.find((p) => p.variable === "facility_electricity");
  if (preferred) choice.value = preferred.variable;
}

async function refresh() {
  clearTimeout(timer);
  try {
    const status = await ask("/v1/status");
    zone = status.time_zone;
    const [setpoints, plan, front, calibration, zones, points] = await Promise.all(
      ["setpoints", "plan", "front", "calibration", "zones", "points"].map((name) => ask(`/v1/${name}`)));
    last = { status, plan, front };
    id("sign-in").hidden = true;
    id("page").hidden = false;
    id("sign-out").hidden = !localStorage.getItem(TOKEN);
    drawStatus(status);
    drawSetpoints(setpoints);
    drawPromise(plan);
    drawZones(zones);
    fillVariables(points);
    drawFront(front);
    drawWeek(plan);
    drawCalibration(calibration);
    await drawFit();
    id("problem").textContent = "";
  } catch (error) {
    if (error instanceof SignInNeeded) { askToken(error.message); return; }
    id("problem").textContent = `The service does not answer as expected: ${error.message}`;
  }
  timer = setTimeout(refresh, EVERY_MS);
}

function askToken(message) {
  id("page").hidden = true;
  id("sign-out").hidden = true;
  id("sign-in").hidden = false;
  id("sign-in-error").textContent = message;
  id("token").focus();
}

id("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem(TOKEN, id("token").value.trim());
  id("token").value = "";
  refresh();
});
id("sign-out").addEventListener("click", () => { localStorage.removeItem(TOKEN); location.reload(); });
id("fit-variable").addEventListener("change", () => drawFit());
id("front-objective").addEventListener("change", () => drawFront(last.front));
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width || id("page").hidden) return;
  width = innerWidth;
  drawFront(last.front);
  drawWeek(last.plan);
  drawFit();
});
refresh();
