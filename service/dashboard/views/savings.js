// Savings: what was saved by measurement, with its uncertainty: the switchback trial, both arms, every day.

import { timeChart } from "../charts.js";
import { capital, card, element, figure, number, part, put, quiet, sentence, share, table, when, words } from "../dom.js";

export const title = "Savings";
export const asks = { savings: "/v1/savings" };

const SIDES = { plan: "the plan", own: "the own schedule" };

export function build(root, page) {
  const result = element("div"), trial = element("div"), days = element("div", { class: "chart" }), arms = element("div"), list = element("div");
  root.append(card("What was saved", { class: "card wide" }, result), card("The trial", {}, trial), card("Comfort and air on both sides", {}, arms), card("Day by day", { class: "card wide" }, days, list));
  const drawResult = part(result, (node, data) => resultPart(node, data, page));
  const drawTrial = part(trial, trialPart);
  const drawArms = part(arms, armsPart);
  const drawDays = part(days, daysPart);
  const drawList = part(list, listPart);
  return {
    update({ savings }) {
      const report = savings?.report || null;
      drawResult({ savings, mayAct: page.mayAct(), running: page.status.running });
      drawTrial(savings);
      drawArms(report);
      drawDays(report);
      drawList(report);
    },
  };
}

function resultPart(node, { savings, mayAct, running }, page) {
  const report = savings?.report;
  const make = mayAct && savings ? element("p", { class: "buttons" }, element("button", { type: "button", disabled: running.includes("savings"),
    onclick: () => page.attempt(() => page.send("POST", "/v1/savings"), "The report is being made; it appears here.") }, running.includes("savings") ? "The report is being made" : "Make the report now")) : null;
  if (!report) {
    put(node, element("p", {}, "Nothing is proven yet."), quiet("A plan promises a saving; only measurement shows it. The report compares days run by the plan with days run by the own schedule, weather allowed for, and says how sure it is."), savings?.next ? element("p", {}, sentence(savings.next)) : null, make);
    return;
  }
  const known = Number.isFinite(report.saving);
  put(node, known ? element("dl", { class: "figures" },
    figure("Saved", share(report.saving), "", `${share(report.low)} to ${share(report.high)} at ${share(report.confidence)} confidence`),
    figure("Energy", number(report.saved_kwh), "kWh", `${number(report.saved_low_kwh)} to ${number(report.saved_high_kwh)}`),
    figure("Used by the plan's days", number(report.reported_kwh), "kWh", `the own schedule would have used ${number(report.baseline_kwh)}`),
    figure("Days", `${report.n_plan} + ${report.n_own}`, "plan + own"),
    figure("Baseline error", share(report.cv_rmse), "CV(RMSE)")) : element("p", {}, `Not enough days yet: ${report.n_plan} of the plan and ${report.n_own} of the own schedule count, ${report.least_days} of each are needed.`),
  element("p", {}, sentence(report.said)),
  report.is_shown === null || report.is_shown === undefined ? null : element("p", { class: report.is_shown ? "good" : "warn" }, report.is_shown ? "Shown by ASHRAE Guideline 14: the 68 % uncertainty is at most half the saving." : "Not shown yet by ASHRAE Guideline 14: the 68 % uncertainty is more than half the saving."),
  quiet(`${sentence(report.source)} Energy: ${report.energy}. Made ${when(report.made)}.${report.is_model_based ? " Without a trial: what else changed since counts as saving." : ""}`), element("p", {}, sentence(savings.next)), make);
}

function trialPart(node, savings) {
  const trial = savings?.trial;
  if (!trial) { put(node, quiet("No switchback trial is set. In a trial the guard follows the plan on some days and the own schedule on others, drawn by lot: what differs is what the plan did.")); return; }
  put(node, element("p", {}, `A switchback by ${trial.block}, from ${trial.start} to ${trial.end}: ${trial.state}.`),
    trial.today ? element("p", {}, `Today: ${SIDES[trial.today]} (day ${trial.day} of ${trial.n_days}).`) : null,
    quiet(`Sides drawn by lot with seed ${trial.seed}; ${trial.washout_h} h after each change do not count.`));
}

function armsPart(node, report) {
  if (!report?.arms || !Object.keys(report.arms).length) { put(node, quiet("No days to compare yet.")); return; }
  const rows = { energy_kwh: "Energy a day [kWh]", outdoor_air_temperature: "Outdoor temperature [°C]", discomfort: "Discomfort [K·h per zone and day]", co2_excess: "CO₂ excess [ppm·h per zone and day]", co2: "CO₂, people present [ppm]" };
  const sides = Object.keys(report.arms);
  put(node, table("Both sides", ["", ...sides.map((s) => capital(SIDES[s] || words(s)))], Object.entries(rows).map(([key, text]) => [text, ...sides.map((s) => report.arms[s][key])])));
}

function daysPart(node, report) {
  if (!report?.days?.length) { put(node, quiet("No day has been counted yet.")); return; }
  const times = report.days.map((d) => Date.parse(`${d.day}T12:00Z`));
  const of = (side) => report.days.map((d) => (d.side === side && !d.left_out ? d.energy_kwh : NaN));
  timeChart(node, { title: "Energy of each day", unit: "kWh", height: 220, includeZero: true, lines: [
    { name: "day of the plan", times, values: of("plan"), kind: "chosen", isDots: true }, { name: "day of the own schedule", times, values: of("own"), kind: "measured", isDots: true },
    { name: "expected of the own schedule", times, values: report.days.map((d) => d.expected_kwh ?? NaN), kind: "quiet", isDashed: true, isThin: true }] });
}

function listPart(node, report) {
  if (!report?.days?.length) { put(node); return; }
  const left = Object.entries(report.left_out || {});
  put(node, left.length ? quiet(`Left out: ${left.map(([why, n]) => `${n} ${n === 1 ? "day" : "days"}, ${words(why)}`).join("; ")}.`) : null,
    element("details", {}, element("summary", {}, "Every day as a table"), table("Days", ["Day", "Side", "Energy [kWh]", "Expected [kWh]", "Outdoor [°C]", "Left out because"], report.days.map((d) => [d.day, d.side ? SIDES[d.side] : "–", d.energy_kwh, d.expected_kwh, d.outdoor_air_temperature, d.left_out ? words(d.left_out) : ""]))));
}
