// Nodes and words. Every text enters as a text node, so nothing measured or named can become markup.

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function shape(name, attributes = {}, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

export const put = (node, ...children) => node.replaceChildren(...children.flat().filter(Boolean));

// Draws a part of a view only when what it shows has changed: a poll must not take the focus or the cursor away.
export function part(node, draw) {
  let shown;
  return (data) => {
    const text = JSON.stringify(data);
    if (text === shown) return;
    shown = text;
    draw(node, data);
  };
}

// Making a formatter takes longer than drawing a row, so each is made once.
const numerals = Array.from({ length: 6 }, (_, places) => new Intl.NumberFormat("en", { maximumFractionDigits: places }));
const formats = new Map();

// An instant (ms) in the building's time zone, in the parts asked for.
export function formatter(parts) {
  const key = JSON.stringify([clock.zone, parts]);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: clock.zone, ...parts }));
  return formats.get(key);
}

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const places = size === 0 ? 0 : Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return numerals[Math.min(places, 5)].format(value);
}

export const share = (value) => (Number.isFinite(value) ? `${(value * 100).toFixed(1)} %` : "–");
export const ms = (text) => (text ? Date.parse(text) : NaN);
export const words = (name) => String(name).replaceAll("_", " ").replace(/\bco2\b/, "CO₂");
export const capital = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");
export const sentence = (text) => (text ? `${capital(text)}${/[.!?]$/.test(text) ? "" : "."}` : "");

export const clock = { zone: "UTC" };
const said = (text, parts) => (text ? formatter(parts).format(new Date(text)) : "–");
export const when = (text) => said(text, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
export const timeOf = (text) => said(text, { hour: "2-digit", minute: "2-digit" });
export const dayOf = (text) => said(text, { weekday: "short", day: "numeric" });

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "never";
  if (seconds < -60) return `${age(-seconds)} ahead`;
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${number(seconds / 3600, 2)} h`;
  return `${number(seconds / 86400, 2)} days`;
}

// Powers are large and shares are small; people read kW and percent.
const UNITS = { W: ["kW", 1e-3], "kg/kg": ["g/kg", 1e3], 1: ["%", 100], degC: ["°C", 1], K: ["K", 1], "m3/h.m2": ["m³/h·m²", 1], x: ["×", 1],
  "W/m2": ["W/m²", 1], "1/m2": ["people/m²", 1], "W/m2.K": ["W/m²·K", 1] };
export const scaled = (value, unit) => (value === null || value === undefined ? NaN : value * (UNITS[unit] ? UNITS[unit][1] : 1));
export const unscaled = (value, unit) => value / (UNITS[unit] ? UNITS[unit][1] : 1);
export const unitName = (unit) => (UNITS[unit] ? UNITS[unit][0] : unit);
export const scaledAll = (block) => block.values.map((v) => scaled(v, block.unit));

export const OBJECTIVES = {
  energy: ["HVAC energy", "kWh"], discomfort: ["Discomfort", "K·h per zone"],
  co2_excess: ["CO₂ excess", "ppm·h per zone"], moisture_risk: ["Moisture risk", "share·h per zone"],
};
export const objective = (name, unit = "") => OBJECTIVES[name] || [capital(words(name)), unit];

export function figure(name, value, unit, note) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value, " ", element("small", {}, unit)),
    note ? element("dd", { class: "quiet" }, note) : null);
}

export function table(caption, heads, rows) {
  const isNumber = (column) => rows.length > 0 && rows.every((r) => typeof r[column] === "number" || r[column] === null || r[column].dataset?.number);
  const numeric = heads.map((_, i) => isNumber(i));
  const cell = (c, i) => element(i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : numeric[i] ? { class: "number" } : {},
    c instanceof Node ? c : typeof c === "number" ? number(c) : c === null ? "–" : String(c));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    element("table", {}, element("caption", { class: "unseen" }, caption),
      element("thead", {}, element("tr", {}, ...heads.map((h, i) => element("th", { scope: "col", class: numeric[i] ? "number" : null }, h)))),
      element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map(cell))))));
}

export const card = (title, attributes = {}, ...children) => {
  const heading = element("h3", {}, title);
  return element("section", { class: "card", ...attributes }, heading, ...children);
};
export const quiet = (text) => element("p", { class: "quiet" }, text);
export const option = (value, text, isSelected = false) => element("option", { value, selected: isSelected }, text);
export const field = (label, control, note) => element("label", { class: "field" }, element("span", {}, label), control,
  note ? element("small", { class: "quiet" }, note) : null);

export function legend(entries) {
  return element("ul", { class: "legend" }, ...entries.map(([name, kind, look = "line"]) =>
    element("li", { class: `c-${kind} ${look}` }, element("span", {}, name))));
}
