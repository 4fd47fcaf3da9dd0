// Fit: measured against predicted, the verdict of the calibration, its parameters with their spread, and what the data do not say.

import { timeChart } from "../charts.js";
import { capital, card, element, field, ms, number, option, part, put, quiet, scaled, scaledAll, sentence, share, table, unitName, when, words } from "../dom.js";

export const title = "Fit";
export const asks = { calibration: "/v1/calibration", points: "/v1/points" };

const DAY_MS = 86_400_000;

export function build(root, page) {
  const chart = element("div", { class: "chart" }), errors = element("p", { class: "quiet" }), verdict = element("div"), parameters = element("div"), indoor = element("div");
  const choice = element("select", { onchange: () => drawSeries() });
  const days = element("select", { onchange: () => drawSeries() }, option(7, "a week"), option(14, "two weeks"), option(28, "four weeks"));
  root.append(
    card("Measured against predicted", { class: "card wide" }, element("div", { class: "row" }, field("Variable", choice), field("Look back", days)), chart, errors),
    element("div", { class: "stack" }, card("Verdict", {}, verdict), card("Parameters", {}, parameters)), card("Zones and air", {}, indoor));
  const drawChart = part(chart, (node, spec) => timeChart(node, spec));
  const drawVerdict = part(verdict, (node, data) => verdictPart(node, data, page));
  const drawParameters = part(parameters, parametersPart);
  const drawIndoor = part(indoor, indoorPart);

  async function drawSeries() {
    const variable = choice.value;
    if (!variable) { put(chart, quiet("Nothing is measured yet.")); return; }
    const now = page.now(), name = encodeURIComponent(variable);
    const start = encodeURIComponent(new Date(now - Number(days.value) * DAY_MS).toISOString());
    const end = encodeURIComponent(new Date(now + 2 * DAY_MS).toISOString());
    const [measured, predicted] = await Promise.all([page.ask(`/v1/series?variable=${name}&start=${start}`), page.ask(`/v1/series?variable=${name}&start=${start}&end=${end}&kind=predicted`)]);
    if (variable !== choice.value || !measured || !predicted) return;
    const block = predicted.series[variable], unit = measured.series[variable].unit;
    const line = (answer, kind) => ({ name: kind, times: answer.stamps.map(ms), values: scaledAll(answer.series[variable]), kind });
    const lines = [line(measured, "measured"), line(predicted, "predicted")];
    const bands = block.low ? [{ name: "9 hours of 10 expected here", times: lines[1].times, low: block.low.map((v) => scaled(v, unit)), high: block.high.map((v) => scaled(v, unit)), kind: "predicted" }] : [];
    drawChart({ title: capital(words(variable)), unit: unitName(unit), lines, bands, now: Math.floor(now / 3.6e6) * 3.6e6, height: 280 });
    const at = new Map(lines[1].times.map((t, i) => [t, i]));
    const pairs = lines[0].times.map((t, i) => [lines[0].values[i], at.get(t)]).filter(([m, i]) => Number.isFinite(m) && i !== undefined && Number.isFinite(lines[1].values[i]));
    const rmse = Math.sqrt(pairs.reduce((s, [m, i]) => s + (m - lines[1].values[i]) ** 2, 0) / pairs.length);
    const inside = bands.length ? pairs.filter(([m, i]) => bands[0].low[i] <= m && m <= bands[0].high[i]).length / pairs.length : NaN;
    errors.textContent = pairs.length
      ? `Root mean square of measured minus predicted: ${number(rmse, 2)} ${unitName(unit)} over ${pairs.length} hours${Number.isFinite(inside) ? `, ${share(inside)} of them inside the band` : ""}. The prediction of an hour is the newest one made before it; hours before the first plan were predicted afterwards. From then on it is of the week under the plan: where the plan was not followed, the two part.`
      : "Predictions come with the first plan.";
  }

  return {
    async update({ calibration, points }) {
      const order = { consumption: 0, indoor: 1 };
      const shown = (points || []).filter((p) => p.role in order).sort((a, b) => order[a.role] - order[b.role]);
      if (choice.options.length !== shown.length) {
        put(choice, ...shown.map((p) => option(p.variable, capital(words(p.variable)), p.variable === "facility_electricity")));
      }
      drawVerdict({ calibration, mayAct: page.mayAct(), running: page.status.running });
      const shownNow = calibration?.accepted || calibration?.last || null;
      drawParameters(shownNow && { spreads: shownNow.calibration.spreads || [], bounds: calibration.bounds || {} });
      drawIndoor(shownNow);
      await drawSeries();
    },
  };
}

function verdictPart(node, { calibration, mayAct, running }, page) {
  const again = mayAct ? element("p", { class: "buttons" }, element("button", { type: "button", disabled: running.includes("calibration"),
    onclick: () => page.attempt(() => page.send("POST", "/v1/calibrations"), "A calibration has begun; its verdict appears here.") }, running.includes("calibration") ? "A calibration is running" : "Calibrate now")) : null;
  const shown = calibration?.accepted || calibration?.last;
  if (!shown) { put(node, quiet("No calibration yet: plans would stand on default parameters. It needs some weeks of readings; Points shows what is measured."), again); return; }
  const c = shown.calibration, isRefused = shown.state === "refused";
  const energy = (c.energy || []).map((e) => [capital(words(e.name)), share(e.cv_rmse), share(e.nmbe), share(e.cv_rmse_daily),
    element("span", { class: e.is_judged ? (e.passes ? "good" : "bad") : "quiet" }, e.is_judged ? (e.passes ? "passes" : "fails") : "not judged")]);
  const later = calibration.accepted && calibration.last.state === "refused"
    ? element("p", { class: "warn" }, `The last try (${when(calibration.last.made)}) was refused and changes nothing: ${(calibration.last.calibration.refusals || []).join("; ")}.`) : null;
  put(node, element("p", {}, element("strong", { class: isRefused ? "bad" : "good" }, isRefused ? "Refused" : "Accepted"), `, made ${when(shown.made)}, on ${c.n_fit_h} hours; judged on ${c.n_held_out_h} hours it had not seen.`),
    ...(c.refusals || []).map((t) => element("p", { class: "bad" }, sentence(t))), later,
    energy.length ? table("Guideline 14", ["On hours held out", "CV(RMSE)", "NMBE", "Daily CV(RMSE)", "Guideline 14"], energy) : null,
    quiet("ASHRAE Guideline 14, hourly: CV(RMSE) at most 30 %, NMBE at most 10 % either way. Too little of an energy in the held-out hours is not judged."),
    (c.warnings || []).length ? element("ul", { class: "notes warn" }, ...c.warnings.map((t) => element("li", {}, sentence(words(t))))) : null, again);
}

function indoorPart(node, shown) {
  if (!shown) { put(node, quiet("No calibration yet.")); return; }
  const c = shown.calibration, ahead = c.day_ahead || {};
  const rows = (c.indoor || []).map((f) => [capital(words(f.name)), scaled(f.rmse, f.unit === "degC" ? "K" : f.unit), scaled(f.bias, f.unit === "degC" ? "K" : f.unit), ahead[f.name]?.[1] === null || ahead[f.name] === undefined ? null : scaled(ahead[f.name][1], f.unit), f.unit === "degC" ? "K" : unitName(f.unit)]);
  const dropped = Object.entries(c.dropped || {});
  put(node, rows.length ? table("Errors indoors", ["On hours held out", "RMSE", "Bias", "RMSE a day ahead", "Unit"], rows) : quiet("Nothing indoors was compared."),
    dropped.length ? element("details", {}, element("summary", {}, `Measured but not used (${dropped.length})`), element("ul", { class: "notes" }, ...dropped.map(([n, t]) => element("li", {}, `${words(n)}: ${t}`)))) : null);
}

function parametersPart(node, shown) {
  if (!shown) { put(node, quiet("No calibration yet.")); return; }
  const { spreads, bounds } = shown;
  const weak = spreads.filter((p) => p.state !== "identified");
  const bar = (p) => {
    if (!bounds[p.name]) return "";
    const [least, most] = bounds[p.name];
    const at = (v) => `${Math.min(100, Math.max(0, (100 * (v - least)) / (most - least)))}%`;
    const band = element("span", { class: "band" }), dot = element("span", { class: `dot ${p.state === "identified" ? "ok" : "warm"}` });
    band.style.left = at(p.low);
    band.style.right = `calc(100% - ${at(p.high)})`;
    dot.style.left = at(p.value);
    return element("span", { class: "scale", "aria-hidden": "true" }, band, dot);
  };
  const tone = { identified: "good", weak: "warn", "at bound": "bad" };
  put(node, spreads.length ? table("Parameters", ["Parameter", "Value", "One standard deviation", "Within its bounds", "State"], spreads.map((p) => [capital(words(p.name)), p.value, `${number(p.low)} … ${number(p.high)}`, bar(p), element("span", { class: tone[p.state] || "" }, p.state)])) : quiet("No parameter was fitted."),
    weak.length ? element("p", { class: "warn" }, `Not identifiable from this data: ${weak.map((p) => `${words(p.name)} (${p.state})`).join(", ")}. Another season, or another way of running the building, would tell; do not read their values as facts about the building.`)
      : spreads.length ? quiet("Every parameter is identified by this data.") : null);
}
