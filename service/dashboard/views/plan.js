// Plan: the coming week against the own schedule, why this plan, and what people may say to it: confirm, withdraw, hold, mode.

import { settingsCharts } from "../charts.js";
import { capital, card, element, field, figure, number, objective, option, part, put, quiet, scaled, sentence, share, table, unitName, unscaled, when, words } from "../dom.js";

export const title = "Plan";
export const asks = { plan: "/v1/plan", overrides: "/v1/overrides?limit=20", setpoints: "/v1/setpoints" };

const HOURS = [1, 2, 4, 8, 12, 24, 48, 72, 168];
const MODES = { watch: "watch: nothing leaves", advise: "advise: a person confirms each plan", auto: "auto: plans leave by themselves", maintenance: "maintenance: setpoints are released" };

export function build(root, page) {
  const promise = element("div"), week = element("div"), why = element("div"), held = element("div"), hold = element("div"), mode = element("div");
  root.append(
    card("This plan", { class: "card wide" }, promise),
    card("Setpoints of the coming week", { class: "card wide" }, week),
    card("Why this plan", {}, why),
    element("div", { class: "stack" }, card("Held by people", {}, held, hold), card("Mode", {}, mode)));
  const drawPromise = part(promise, (node, data) => promisePart(node, data, page));
  const drawWeek = part(week, (node, { plan, now }) => (plan ? settingsCharts(clear(node), { ...plan, now, name: plan.origin === "optimised" ? "plan" : plan.origin }) : put(node, quiet("No plan yet."))));
  const drawWhy = part(why, whyPart);
  const drawHeld = part(held, (node, data) => heldPart(node, data, page));
  let present = {};
  const drawHold = part(hold, (node, data) => holdPart(node, data, () => present, page)); // drawn once: nobody's typing is lost
  const drawMode = part(mode, (node, data) => modePart(node, data, page));
  return {
    update({ plan, overrides, setpoints }) {
      const mayAct = page.mayAct();
      const { plan_waiting: waiting, mode: inForce } = page.status;
      drawPromise({ plan, waiting, mode: inForce.mode, mayAct });
      drawWeek({ plan, now: Math.floor(page.now() / 3.6e6) * 3.6e6 });
      drawWhy(plan);
      drawHeld({ overrides: overrides || [], mayAct });
      present = Object.fromEntries((setpoints?.settings || []).map((s) => [s.variable, s.value]));
      drawHold({ settings: (setpoints?.settings || []).map(({ variable, unit, low, high }) => ({ variable, unit, low, high })), mayAct });
      drawMode({ mode: inForce, mayAct });
    },
  };
}

// A sentence that stood where charts come gives way; charts that are there stay.
function clear(node) {
  if (node.querySelector(":scope > p")) put(node);
  return node;
}

function promisePart(node, { plan, waiting, mode, mayAct }, page) {
  const search = mayAct ? element("button", { type: "button", onclick: () => page.attempt(() => page.send("POST", "/v1/plans"), "A search has begun; its plan appears here.") }, "Search a new plan now") : null;
  if (!plan) {
    put(node, quiet("No plan yet. A search runs by its cadence, after an accepted calibration, or when an operator asks for it."), element("p", { class: "buttons" }, search));
    return;
  }
  const { predicted = {}, references = {}, saving = {}, baseline, reason = "" } = plan.meta;
  const today = references[baseline] || {};
  const rows = Number.isFinite(saving[baseline]) ? [figure("Energy saved", share(saving[baseline]), "", "predicted, against the own schedule")] : [];
  for (const [name, value] of Object.entries(predicted)) {
    const [label, unit] = objective(name);
    rows.push(figure(label, number(value), unit, Number.isFinite(today[name]) ? `own schedule ${number(today[name])}` : ""));
  }
  const state = plan.is_in_force ? waiting === plan.id ? "It waits for a person: nothing of it is sent before it is confirmed." : mode === "auto" || mode === "advise" ? "It is in force." : `It is in force, but mode ${mode} sends nothing.` : "It is not in force.";
  const confirm = () => page.act(`Confirm plan ${plan.id}?`, `Its setpoints leave from now on, until ${when(plan.end)}.`,
    (why) => page.send("POST", `/v1/plans/${plan.id}/confirm`, { reason: why }), `Plan ${plan.id} is confirmed.`);
  const withdraw = () => page.act(`Withdraw plan ${plan.id}?`, "It is not followed any more, in any mode. The plan before it is, or the own schedule.",
    (why) => page.send("POST", `/v1/plans/${plan.id}/withdraw`, { reason: why }), `Plan ${plan.id} is withdrawn.`);
  put(node, element("dl", { class: "figures" }, ...rows),
    element("p", {}, `Plan ${plan.id}, ${plan.origin}, from ${when(plan.start)} to ${when(plan.end)}. ${state}`), quiet(sentence(reason)),
    element("p", { class: "buttons" },
      mayAct && plan.is_in_force && mode === "advise" && waiting === plan.id ? element("button", { type: "button", class: "main", onclick: confirm }, "Confirm this plan") : null,
      mayAct && plan.is_in_force ? element("button", { type: "button", onclick: withdraw }, "Withdraw it") : null,
      search, element("a", { class: "button", href: "#trade-offs" }, "What else was possible"), element("a", { class: "button", href: "#what-if?base=plan" }, "What if")));
}

function whyPart(node, plan) {
  if (!plan) { put(node, quiet("No plan yet.")); return; }
  const { reason = "", rule, forecast = {}, past = {}, outside = [], references = {}, predicted = {}, calibration, decisions = {}, slack } = plan.meta;
  const names = Object.keys(predicted);
  const rows = [["this plan", predicted], ...Object.entries(references)].map(([name, v]) => [name === "own" ? "own schedule" : name === "own_raised" ? "own schedule with the air it owes" : name === "rules" ? "good-practice rules" : name,
    ...names.map((n) => (Number.isFinite(v?.[n]) ? v[n] : null))]);
  const sources = Object.entries(forecast);
  const filled = Object.entries(past);
  put(node, element("p", {}, sentence(reason)), rule ? quiet(`Rule: ${words(rule)}. ${calibration ? `Calibration of ${when(calibration)}.` : "Without a calibration: default parameters."}`) : null,
    names.length ? table("Predicted figures", ["", ...names.map((n) => objective(n).join(" [") + "]")], rows) : null,
    outside.length ? element("ul", { class: "notes warn" }, ...outside.map((t) => element("li", {}, sentence(words(t))))) : null,
    sources.length ? element("details", {}, element("summary", {}, "Where the coming week comes from"), element("ul", { class: "notes" }, ...sources.map(([n, s]) => element("li", {}, `${words(n)}: ${s}`)))) : null,
    filled.length ? element("details", {}, element("summary", {}, `What was filled in of the past (${filled.length})`), element("ul", { class: "notes" }, ...filled.map(([n, s]) => element("li", {}, `${words(n)}: ${s}`)))) : null,
    Object.keys(decisions).length ? element("details", {}, element("summary", {}, "The decisions behind it"), table("Decisions", ["Decision", "Value"], Object.entries(decisions).map(([n, v]) => [words(n), v]))) : null);
}

function heldPart(node, { overrides, mayAct }, page) {
  if (!overrides.length) { put(node, quiet("Nobody holds a setting.")); return; }
  const end = (o) => page.act(`End the override of ${words(o.setting)}?`, "The plan, or the own schedule, decides it again.",
    (why) => page.send("DELETE", `/v1/overrides/${o.id}?reason=${encodeURIComponent(why)}`), `${capital(words(o.setting))} is free again.`);
  put(node, table("Overrides", ["Setting", "Value", "Until", "By", "Reason", "State"], overrides.map((o) => [words(o.setting), `${number(scaled(o.value, o.unit))} ${unitName(o.unit)}`, when(o.until), o.who, o.reason,
    o.is_in_force ? mayAct ? element("button", { type: "button", onclick: () => end(o), "aria-label": `End the override of ${words(o.setting)}` }, "End it") : "in force" : o.ended ? `ended by ${o.ended_by}` : "over"])));
}

function holdPart(node, { settings, mayAct }, present, page) {
  if (!settings.length) { put(node); return; }
  if (!mayAct) { put(node, quiet("An operator can hold a setting at a value for some hours.")); return; }
  const value = element("input", { type: "number", step: "any", required: true });
  const bounds = element("small", { class: "quiet" });
  const which = element("select", {}, ...settings.map((s) => option(s.variable, capital(words(s.variable)))));
  const hours = element("select", {}, ...HOURS.map((h) => option(h, h < 48 ? `${h} h` : `${h / 24} days`, h === 2)));
  const why = element("input", { minlength: 3, maxlength: 200, required: true, autocomplete: "off" });
  const fill = () => {
    const s = settings.find((one) => one.variable === which.value);
    value.value = Number(scaled(present()[s.variable], s.unit).toFixed(3));
    value.min = scaled(s.low, s.unit);
    value.max = scaled(s.high, s.unit);
    bounds.textContent = `${number(scaled(s.low, s.unit))} to ${number(scaled(s.high, s.unit))} ${unitName(s.unit)}`;
  };
  which.addEventListener("change", fill);
  fill();
  const submit = (event) => {
    event.preventDefault();
    const s = settings.find((one) => one.variable === which.value);
    const until = new Date(page.now() + Number(hours.value) * 3.6e6).toISOString();
    page.attempt(() => page.send("POST", "/v1/overrides", { setting: s.variable, value: unscaled(Number(value.value), s.unit), until, reason: why.value.trim() }),
      `${capital(words(s.variable))} is held until ${when(until)}.`).then(() => { why.value = ""; });
  };
  const at = field("At", value);
  at.append(bounds);
  put(node, element("form", { class: "row", onsubmit: submit, "aria-label": "Hold a setting" }, field("Hold", which), at, field("For", hours), field("Why", why), element("button", { type: "submit" }, "Hold it")));
}

function modePart(node, { mode, mayAct }, page) {
  const said = element("p", {}, element("strong", {}, MODES[mode.mode]), mode.since ? `, since ${when(mode.since)} by ${mode.who}: ${sentence(mode.reason)}` : `, as ${mode.who} says.`);
  if (!mayAct) { put(node, said, quiet("An operator can change it.")); return; }
  const choice = element("select", {}, ...Object.entries(MODES).map(([name, text]) => option(name, text, name === mode.mode)));
  const change = () => page.act(`Change to mode ${choice.value}?`, MODES[choice.value], (why) => page.send("PUT", "/v1/mode", { mode: choice.value, reason: why }), `Mode ${choice.value} is in force.`);
  put(node, said, element("div", { class: "row" }, field("Mode", choice), element("button", { type: "button", onclick: change }, "Change the mode")));
}
