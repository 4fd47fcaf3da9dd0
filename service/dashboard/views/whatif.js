// What if: change settings of the coming week and see what the metamodel expects of it, beside the own schedule and the plan.

import { settingsCharts, stretches, timeChart } from "../charts.js";
import { capital, card, element, field, formatter, ms, number, objective, option, part, put, quiet, scaled, scaledAll, sentence, share, table, unitName, unscaled, when, words } from "../dom.js";

export const title = "What if";
export const asks = { setpoints: "/v1/setpoints", plan: "/v1/plan" };

const HOUR_MS = 3.6e6;
const WAIT_MS = 120;
const DAYS = { all: "the whole week", work: "Monday to Friday", weekend: "the weekend", Mon: "Mondays", Tue: "Tuesdays", Wed: "Wednesdays", Thu: "Thursdays", Fri: "Fridays", Sat: "Saturdays", Sun: "Sundays" };
const REACH = { degC: 5, "m3/h.m2": 2, 1: 1 };
const KINDS = { heating_setpoint: "heat", cooling_setpoint: "cool", supply_air_temperature: "supply", outdoor_air_flow: "air", system_on: "predicted" };

export function build(root, page) {
  let settings = [], answer = null, kept = [], base = "plan", point = null, first = true, asking = false, again = false, timer = null, warm = false, tries = 0;

  const basis = element("select", { onchange: () => { [base, point] = basis.value.split(":"); soon(); } });
  const setting = element("select", { onchange: () => { fresh(); drawDrag(); } });
  const kind = element("select", { onchange: () => fresh() }, option("by", "shift it by"), option("value", "set it to"));
  const days = element("select", { onchange: () => soon() }, ...Object.entries(DAYS).map(([v, t]) => option(v, t)));
  const from = element("select", { onchange: () => soon() }, ...Array.from({ length: 24 }, (_, h) => option(h, `${String(h).padStart(2, "0")}:00`)));
  const to = element("select", { onchange: () => soon() }, ...Array.from({ length: 24 }, (_, h) => option(h + 1, `${String(h + 1).padStart(2, "0")}:00`, h === 23)));
  const slider = element("input", { type: "range", "aria-label": "How much", oninput: () => { shown(); soon(); } });
  const amount = element("output", { class: "amount" });
  const chips = element("ul", { class: "chips", "aria-label": "Changes so far" });
  const drag = element("div", { class: "chart" }), figures = element("div"), notes = element("div"), spoken = element("p", { class: "quiet", role: "status" });
  const temperature = element("div", { class: "chart" }), air = element("div", { class: "chart" }), power = element("div", { class: "chart" }), week = element("div");
  root.append(
    card("Change the coming week", {}, element("div", { class: "row" }, field("Starting from", basis), field("Setting", setting), field("On", days), field("From", from), field("To", to), field("Change", kind)),
      element("div", { class: "row slider" }, slider, amount),
      element("p", { class: "buttons" }, element("button", { type: "button", onclick: keep }, "Keep this and add another"), element("button", { type: "button", onclick: reset }, "Start again")), chips, drag),
    card("What the metamodel expects", {}, spoken, figures, notes),
    card("Hour by hour", { class: "card wide" }, temperature, air, power),
    card("The week asked for, as the guard would let it out", { class: "card wide" }, week));
  const drawWeek = part(week, (node, data) => settingsCharts(node, data));

  const chosen = () => settings.find((s) => s.variable === setting.value);

  // The slider of the chosen setting: a shift around nothing, or a value within its bounds; in the unit people read.
  function fresh() {
    const s = chosen();
    if (!s) return;
    const reach = scaled(REACH[s.unit] ?? (s.high - s.low) / 2, s.unit);
    slider.min = kind.value === "by" ? -reach : scaled(s.low, s.unit);
    slider.max = kind.value === "by" ? reach : scaled(s.high, s.unit);
    slider.step = s.unit === "degC" ? 0.1 : s.unit === "1" ? 5 : 0.05;
    slider.value = kind.value === "by" ? 0 : scaled(s.value, s.unit);
    shown();
    soon();
  }
  function shown() {
    const s = chosen();
    const sign = kind.value === "by" && Number(slider.value) > 0 ? "+" : "";
    amount.textContent = s ? `${sign}${number(Number(slider.value)).replace("-", "−")} ${s.unit === "degC" && kind.value === "by" ? "K" : unitName(s.unit)}` : "";
    slider.setAttribute("aria-valuetext", amount.textContent);
  }

  const current = () => (kind.value === "by" && Number(slider.value) === 0 ? null
    : { setting: setting.value, kind: kind.value, amount: unscaled(Number(slider.value), chosen()?.unit), days: days.value, from: Number(from.value), to: Number(to.value), said: said() });
  function said() {
    const hours = from.value === "0" && to.value === "24" ? "" : ` from ${from.selectedOptions[0].text} to ${to.selectedOptions[0].text}`;
    return `${words(setting.value)} ${kind.value === "by" ? "shifted by" : "set to"} ${amount.textContent}, ${DAYS[days.value]}${hours}`;
  }
  function keep() {
    const change = current();
    if (!change) return;
    kept.push(change);
    kind.value = "by";
    drawChips();
    fresh();
  }
  function reset() { kept = []; kind.value = "by"; days.value = "all"; from.value = 0; to.value = 24; drawChips(); fresh(); }
  function drawChips() {
    put(chips, ...kept.map((c, i) => element("li", {}, c.said, " ", element("button", { type: "button", "aria-label": `Remove: ${c.said}`, onclick: () => { kept.splice(i, 1); drawChips(); soon(); } }, "×"))));
  }

  // A change over days and hours of the local week, as stretches of hours of the coming one.
  function stretchesOf(change) {
    if (change.days === "all" && change.from === 0 && change.to === 24) return [{ setting: change.setting, [change.kind]: change.amount }];
    const stamps = answer ? answer.stamps.map(ms) : Array.from({ length: 168 }, (_, h) => Math.floor(page.now() / HOUR_MS) * HOUR_MS + h * HOUR_MS);
    const local = formatter({ weekday: "short", hour: "2-digit", hourCycle: "h23" });
    const isIn = (t) => {
      const parts = Object.fromEntries(local.formatToParts(t).map((p) => [p.type, p.value]));
      const day = parts.weekday, hour = Number(parts.hour), isFree = day === "Sat" || day === "Sun";
      const isDay = { all: true, work: !isFree, weekend: isFree }[change.days] ?? day === change.days;
      return isDay && (change.from < change.to ? hour >= change.from && hour < change.to : hour >= change.from || hour < change.to);
    };
    return stretches(stamps, stamps.map(isIn), HOUR_MS).map(([start, end]) => ({ setting: change.setting, [change.kind]: change.amount, start: new Date(start).toISOString(), end: new Date(end).toISOString() }));
  }

  function soon() { clearTimeout(timer); timer = setTimeout(question, WAIT_MS); }

  async function question() {
    if (asking) { again = true; return; }
    if (!settings.length) return;
    asking = true;
    if (!warm) spoken.textContent = "Opening the metamodel; the first answer takes some seconds.";
    const began = performance.now();
    try {
      const changes = [...kept, current()].filter(Boolean).flatMap(stretchesOf).slice(0, 500);
      answer = await page.send("POST", "/v1/what-if", { base, ...(base === "front" ? { point: Number(point) } : {}), changes });
      const took = (performance.now() - began) / 1000;
      performance.measure("what-if", { start: began, end: performance.now() });
      warm = true;
      tries = 0;
      draw();
      const energy = answer.asked.figures.energy, own = answer.own.figures.energy;
      spoken.textContent = `Answered in ${number(took, 2)} s. ${own > 0 ? `${share(Math.abs(1 - energy / own))} ${energy <= own ? "less" : "more"} HVAC energy than the own schedule.` : ""}${answer.calibrated ? "" : " Without a calibration this is a sketch: default parameters."}`;
    } catch (error) {
      spoken.textContent = `${sentence(error.message)} ${error.body?.what_to_do || ""}`;
      if (error.code === 503 && tries < 20) { // others ask, or the metamodel is still coming up
        tries += 1;
        spoken.textContent = `${sentence(error.message)} Asking again.`;
        setTimeout(soon, 2000);
      }
      if (error.code === 404 && base !== "own") { base = "own"; basis.value = "own"; again = true; }
      if (!error.code) throw error;
    } finally {
      asking = false;
      if (again) { again = false; soon(); }
    }
  }

  function draw() {
    const weeks = { own: answer.own, plan: answer.plan, asked: answer.asked };
    const names = Object.keys(answer.asked.figures);
    const difference = (n) => { const d = weeks.asked.figures[n] - weeks.own.figures[n]; return element("span", { "data-number": 1 }, Math.abs(d) < 5e-4 ? "same" : `${d > 0 ? "+" : "−"}${number(Math.abs(d))}`); };
    put(figures, table("Figures of the coming week", ["Over the coming week", "Own schedule", ...(weeks.plan ? ["Plan"] : []), "What if", "Against own"], names.map((n) => [
      `${objective(n)[0]} [${objective(n, answer.units[n])[1]}]`, weeks.own.figures[n], ...(weeks.plan ? [weeks.plan.figures[n]] : []), element("strong", { "data-number": 1 }, number(weeks.asked.figures[n])), difference(n)])));
    put(notes, answer.notes.length ? element("ul", { class: "notes warn" }, ...answer.notes.map((n) => element("li", {}, capital(words(n))))) : quiet("The guard would change nothing."),
      quiet(`Nothing is sent or kept. ${answer.calibrated ? `Calibration of ${when(answer.calibrated)}.` : ""} Weather: ${answer.forecast.outdoor_air_temperature || "unknown"}.`));
    const times = answer.stamps.map(ms), shades = stretches(times, answer.is_occupied, HOUR_MS), now = Math.floor(page.now() / HOUR_MS) * HOUR_MS;
    const line = (w, h, name, kind, more = {}) => ({ name, times, values: scaledAll(w.hourly[h]), kind, ...more });
    const thin = { isThin: true, isDashed: true };
    timeChart(temperature, { title: "Coldest and warmest zone", unit: "°C", shades, shadeName: "people are in", now, height: 230,
      bands: [{ name: "comfort band", times, low: answer.low, high: answer.high, kind: "good" }],
      lines: [line(answer.asked, "coldest_zone", "coldest", "cool"), line(answer.asked, "warmest_zone", "warmest", "heat"), line(answer.own, "coldest_zone", "coldest, own schedule", "cool", thin), line(answer.own, "warmest_zone", "warmest, own schedule", "heat", thin)] });
    timeChart(air, { title: "CO₂ of the worst zone", unit: "ppm", shades, shadeName: "people are in", now, height: 150, lines: [line(answer.asked, "worst_co2", "what if", "air"), line(answer.own, "worst_co2", "own schedule", "air", thin)] });
    timeChart(power, { title: "HVAC power", unit: "kW", shades, shadeName: "people are in", now, height: 170, includeZero: true, lines: [line(answer.asked, "hvac_power", "what if", "measured"), line(answer.own, "hvac_power", "own schedule", "measured", thin)] });
    drawWeek({ stamps: answer.stamps, settings: answer.asked.settings, own: answer.own.settings, now, name: "what if" });
    drawDrag();
  }

  // The chosen setting once more, to take by the line: dragging it up and down moves the slider.
  let isHeld = false, heldAt = 0;
  function drawDrag() {
    const s = chosen();
    if (!answer || !s || isHeld) return;
    const times = answer.stamps.map(ms);
    const line = (w, name, more = {}) => ({ name, times, values: scaledAll(w.settings[s.variable]), kind: KINDS[s.variable] || "predicted", isStepped: true, ...more });
    timeChart(drag, { title: `${capital(words(s.variable))}: drag it up or down`, unit: unitName(s.unit), height: 170,
      lines: [line(answer.asked, "what if"), line(answer.own, "own schedule", { isThin: true, isDashed: true })],
      onDrag: (delta, isDone) => {
        if (!isHeld) { isHeld = true; heldAt = Number(slider.value); }
        slider.value = heldAt + delta;
        shown();
        soon();
        if (isDone) { isHeld = false; drawDrag(); }
      } });
  }

  return {
    update({ setpoints, plan }, query) {
      settings = setpoints?.settings || [];
      if (first) {
        first = false;
        const asked = query.get("base");
        base = asked === "front" && /^\d+$/.test(query.get("point") || "") ? "front" : asked === "own" || !plan?.is_in_force ? "own" : "plan";
        point = base === "front" ? query.get("point") : null;
        put(basis, option("own", "the own schedule", base === "own"), plan?.is_in_force ? option("plan", "the plan in force", base === "plan") : null, point ? option(`front:${point}`, `plan ${point} of the front`, true) : null);
        put(setting, ...settings.map((s) => option(s.variable, capital(words(s.variable)), s.variable === "heating_setpoint")));
        fresh();
      }
    },
  };
}
