// Now: zones against the comfort band, CO2, power, setpoints and who decides them, data quality, the parts of the service.

import { timeChart } from "../charts.js";
import { age, capital, card, element, figure, legend, ms, number, part, put, quiet, scaled, scaledAll, sentence, table, timeOf, unitName, when, words } from "../dom.js";

export const title = "Now";
export const asks = { setpoints: "/v1/setpoints", zones: "/v1/zones", points: "/v1/points" };

const DAY_MS = 86_400_000;
const SHOWN_ZONES = 60;

export function build(root, page) {
  const setpoints = element("div"), zones = element("div"), figures = element("dl", { class: "figures" }), power = element("div", { class: "chart" });
  const quality = element("div"), parts = element("div"), jobs = element("div"), deciders = element("div");
  const search = element("input", { type: "search", "aria-label": "Find a zone", placeholder: "Find a zone", oninput: () => drawZones() });
  const order = element("select", { "aria-label": "Order of the zones", onchange: () => drawZones() },
    element("option", { value: "worst" }, "worst first"), element("option", { value: "name" }, "by name"));
  const zonesTitle = element("div", { class: "tools" }, search, order);
  root.append(
    card("Setpoints", { class: "card wide" }, setpoints),
    card("Zones", { class: "card wide" }, zonesTitle, zones),
    card("Power", {}, figures, power),
    element("div", { class: "stack" }, card("Data", {}, quality), card("Who decides", {}, deciders)),
    card("Parts of the service", { class: "card wide" }, parts),
    card("Jobs and refusals", { class: "card wide" }, jobs));

  let lastZones = null;
  const drawZones = () => lastZones === null ? put(zones, quiet("Not known.")) : zonesPart(zones, lastZones, search.value.trim().toLowerCase(), order.value);
  const drawSetpoints = part(setpoints, setpointsPart);
  const drawDeciders = part(deciders, decidersPart);
  const drawParts = part(parts, partsPart);
  const drawJobs = part(jobs, jobsPart);
  const drawQuality = part(quality, qualityPart);
  const drawFigures = part(figures, (node, points) => put(node, ...points.filter((p) => p.role === "consumption").map((p) =>
    figure(capital(words(p.variable)), p.value === null ? "–" : number(scaled(p.value, p.unit)), unitName(p.unit), p.age_s > 7200 ? `${age(p.age_s)} old` : ""))));
  const drawPower = part(power, powerPart);

  return {
    async update(answers) {
      const points = answers.points || [];
      drawSetpoints(answers.setpoints && { ...answers.setpoints, now: undefined });
      drawDeciders({ mode: page.status.mode, precedence: page.status.precedence, overrides: page.status.overrides, changeover: page.status.changeover });
      lastZones = answers.zones;
      zonesTitle.hidden = (answers.zones?.zones || []).length < 12;
      drawZones();
      drawFigures(points);
      drawQuality({ points, refusals: page.status.refusals });
      drawParts(page.status.parts);
      drawJobs({ jobs: page.status.jobs, refusals: page.status.refusals });
      const names = ["facility_electricity", ...points.filter((p) => p.role === "consumption").map((p) => p.variable)];
      const shown = [...new Set(names)].filter((n) => points.some((p) => p.variable === n)).slice(0, 4);
      if (!shown.length) { put(power, quiet("No power is measured.")); return; }
      const start = encodeURIComponent(new Date(page.now() - 2 * DAY_MS).toISOString());
      const series = await page.ask(`/v1/series?start=${start}&${shown.map((n) => `variable=${encodeURIComponent(n)}`).join("&")}`);
      if (series) drawPower({ ...series, shown });
    },
  };
}

function setpointsPart(node, setpoints) {
  if (!setpoints) { put(node, quiet("Not known.")); return; }
  const mode = { auto: "", advise: " Advice: only what a person confirmed or holds is sent.", watch: " Watching: nothing is sent.", maintenance: " Maintenance: setpoints are released, nothing is sent." }[setpoints.mode];
  const source = setpoints.origin === "optimised" ? `From the plan of ${when(setpoints.plan_issued)}.` : "From the building's own schedule.";
  const by = { plan: "by the plan", own: "by the own schedule", override: "held by a person", safety: "by a safety limit" };
  const rows = setpoints.settings.map((s) => figure(capital(words(s.variable)), number(scaled(s.value, s.unit)), unitName(s.unit),
    `${by[s.source] || s.source}; ${s.is_leaving ? `${s.published || "not sent yet"}, holds until ${timeOf(s.valid_until)}` : "not sent in this mode"}`));
  put(node, element("dl", { class: "figures" }, ...rows), quiet(`${source}${mode}`),
    setpoints.notes.length ? element("ul", { class: "notes" }, ...setpoints.notes.map((n) => element("li", {}, sentence(n)))) : null);
}

function zonesPart(node, answer, wanted, order) {
  const far = (z) => (z.state === "cold" ? z.low - z.air_temperature : z.state === "warm" ? z.air_temperature - z.high : z.state === "unknown" ? 1e-6 : -1);
  if (!answer.zones.length) { put(node, quiet("This building has no zones.")); return; }
  const found = answer.zones.filter((z) => words(z.zone).toLowerCase().includes(wanted));
  const sorted = order === "worst" ? [...found].sort((a, b) => far(b) - far(a)) : found;
  const n = (state) => answer.zones.filter((z) => z.state === state).length;
  const presence = answer.is_occupied === null ? "Occupancy is not known." : answer.is_occupied ? "People are in." : "Nobody is in: the band does not count now.";
  const values = answer.zones.flatMap((z) => [z.low, z.high, ...(z.air_temperature === null ? [] : [z.air_temperature])]);
  const [least, most] = [Math.floor(Math.min(...values) - 0.5), Math.ceil(Math.max(...values) + 0.5)];
  const row = (z) => {
    const state = z.state === "unknown" ? "no fresh reading" : `${z.state === "ok" ? "inside the band" : z.state === "cold" ? "colder than the band" : "warmer than the band"}`;
    const kind = answer.is_occupied === false && z.state !== "unknown" ? "idle" : z.state;
    const at = (v) => `${(100 * (Math.min(most, Math.max(least, v)) - least)) / (most - least)}%`;
    const band = element("span", { class: "band" }), dot = element("span", { class: `dot ${kind}` });
    band.style.left = at(z.low);
    band.style.right = `calc(100% - ${at(z.high)})`;
    dot.style.left = at(z.air_temperature ?? least);
    const scale = element("span", { class: "scale", "aria-hidden": "true" }, band, z.air_temperature === null ? null : dot);
    return element("li", { class: kind }, element("span", { class: "name" }, words(z.zone)), scale,
      element("span", { class: "value" }, z.air_temperature === null ? "–" : `${number(z.air_temperature)} °C`),
      element("span", { class: `co2 ${z.co2 > 1220 ? "warn" : ""}` }, z.co2 === null ? "– ppm" : `${number(Math.round(z.co2), 4)} ppm`),
      element("span", { class: "unseen" }, state));
  };
  put(node, quiet(`${presence} Comfort band ${number(answer.zones[0]?.low ?? NaN)} to ${number(answer.zones[0]?.high ?? NaN)} °C${answer.outdoor_running_mean_known ? "" : " (outdoor temperature unknown: a winter band)"}. Of ${answer.zones.length} zones ${n("ok")} inside, ${n("cold")} colder, ${n("warm")} warmer, ${n("unknown")} without a fresh reading.`),
    element("ul", { class: "zones" }, ...sorted.slice(0, wanted ? sorted.length : SHOWN_ZONES).map(row)),
    sorted.length > SHOWN_ZONES && !wanted ? quiet(`${sorted.length - SHOWN_ZONES} more: find them by name.`) : null,
    sorted.length ? legend([[`comfort band, on a scale from ${least} to ${most} °C`, "band", "fill"], ["inside", "good", "dot"], ["colder", "cool", "dot"], ["warmer", "heat", "dot"]]) : quiet("No zone has such a name."));
}

function powerPart(node, answer) {
  const kinds = ["measured", "heat", "supply", "cool"];
  const times = answer.stamps.map(ms);
  timeChart(node, { title: "The last two days", unit: "kW", height: 180, includeZero: true,
    lines: answer.shown.map((n, i) => ({ name: words(n), times, values: scaledAll(answer.series[n]), kind: kinds[i] })) });
}

function qualityPart(node, { points, refusals }) {
  const silent = points.filter((p) => p.age_s === null || p.age_s > 7200);
  const flagged = points.filter((p) => p.flag && p.flag !== "good");
  const fine = points.filter((p) => p.flag === "good" && p.age_s !== null && p.age_s <= 7200);
  const list = (some) => element("ul", { class: "notes" }, ...some.slice(0, 6).map((p) => element("li", {}, words(p.variable), `: ${p.flag || "no reading"}, ${age(p.age_s)}`)),
    some.length > 6 ? element("li", {}, `and ${some.length - 6} more`) : null);
  put(node, element("dl", { class: "figures" },
    figure("Good and fresh", `${fine.length}`, `of ${points.length}`), figure("Silent for two hours", `${silent.length}`, ""),
    figure("Flagged", `${flagged.length}`, ""), figure("Messages refused", `${refusals.reduce((n, r) => n + r.n, 0)}`, "")),
  silent.length ? list(silent) : null, flagged.filter((p) => !silent.includes(p)).length ? list(flagged.filter((p) => !silent.includes(p))) : null,
  element("p", {}, element("a", { href: "#points" }, "All points")));
}

function decidersPart(node, { mode, precedence, overrides, changeover }) {
  put(node, element("p", {}, "Mode ", element("strong", {}, mode.mode), mode.since ? `, since ${when(mode.since)} by ${mode.who}: ${sentence(mode.reason)}` : `, as ${mode.who} says.`,
    changeover === "both" ? "" : ` The plant is changed over to ${changeover}.`),
  overrides.length ? element("ul", { class: "notes" }, ...overrides.map((o) => element("li", {}, `${words(o.setting)} held at ${number(scaled(o.value, o.unit))} ${unitName(o.unit)} until ${when(o.until)} by ${o.who}: ${sentence(o.reason)}`))) : null,
  element("ol", { class: "notes" }, ...Object.entries(precedence).map(([name, text]) => element("li", {}, element("strong", {}, name), `: ${text}`))),
  element("p", {}, element("a", { href: "#plan" }, "Confirm, override, change the mode")));
}

function partsPart(node, parts) {
  if (!parts.length) { put(node, quiet("Nothing is known of the parts yet.")); return; }
  const tone = { ok: "good", waiting: "warn", degraded: "warn", fault: "bad" };
  put(node, table("Parts of the service", ["Part", "State", "Since", "Fact", "Next"], parts.map((p) => [
    p.name, element("span", { class: tone[p.state] }, p.state), when(p.since), sentence(p.fact), sentence(p.next)])));
}

function jobsPart(node, { jobs, refusals }) {
  const tone = { done: "good", running: "warn", refused: "warn" };
  put(node, jobs.length ? table("Jobs", ["Job", "Started", "Took", "Outcome"], jobs.map((j) => [
    j.kind, when(j.started), j.duration_s === null ? "–" : age(j.duration_s), element("span", { class: tone[j.outcome] || "bad" }, j.outcome, j.log && j.outcome !== "done" ? `: ${j.log.trim().split("\n").at(-1)}` : "")]))
    : quiet("No job has run yet."),
  refusals.length ? table("Refused messages", ["Refused because", "Count", "Last", "Topic", "Detail"], refusals.map((r) => [words(r.reason), r.n, when(r.last), r.topic, r.detail]))
    : quiet("No message was refused."));
}
