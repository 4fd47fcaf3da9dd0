// Small SVG charts of our own. Every text enters as a text node, so nothing measured or named can become markup.

const SVG = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function shape(name, attributes = {}, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

export function ticks(low, high, wanted = 5) {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((f) => f * power >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const places = size === 0 ? 0 : Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en", { maximumFractionDigits: Math.min(places, 5) });
}

function frame(width, height, title) {
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.append(shape("title", {}, title));
  return svg;
}

function extent(values, padding = 0.06) {
  const known = values.filter((v) => Number.isFinite(v));
  if (!known.length) return [0, 1];
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (high - low < 1e-9) [low, high] = [low - 1, high + 1];
  const room = (high - low) * padding;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

export function legend(entries) {
  return element("ul", { class: "legend" }, ...entries.map(([name, kind, look = "line"]) =>
    element("li", { class: `c-${kind} ${look}` }, element("span", {}, name))));
}

function stepsPath(times, values, x, y, isStepped, widthMs) {
  let path = "";
  let isDown = false;
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) { isDown = false; return; }
    const at = x(times[i]);
    path += `${isDown ? "L" : "M"}${at.toFixed(1)} ${y(value).toFixed(1)}`;
    if (isStepped) path += `L${x(times[i] + widthMs).toFixed(1)} ${y(value).toFixed(1)}`;
    isDown = true;
  });
  return path;
}

// The area between low and high, one closed piece for each stretch of hours that has both.
function bandPath({ times, low, high }, x, y) {
  const pieces = [[]];
  times.forEach((t, i) => {
    if (Number.isFinite(low[i]) && Number.isFinite(high[i])) pieces.at(-1).push([x(t).toFixed(1), y(low[i]).toFixed(1), y(high[i]).toFixed(1)]);
    else if (pieces.at(-1).length) pieces.push([]);
  });
  return pieces.filter((p) => p.length > 1).map((p) =>
    `M${p.map(([at, , top]) => `${at} ${top}`).join("L")}L${p.toReversed().map(([at, bottom]) => `${at} ${bottom}`).join("L")}Z`).join("");
}

// lines: [{times, values, kind}]; bands: [{times, low, high, kind}]; shades: [[from, to]]; all times in ms.
export function timeChart({ title, lines, bands = [], shades = [], zone, now, unit, width, height = 220, isStepped = false, includeZero = false, isNowNamed = true }) {
  const svg = frame(width, height, title);
  const [left, right, top, bottom] = [46, 8, 14, 24];
  const stamps = lines.flatMap((l) => l.times);
  if (!stamps.length) return element("p", { class: "quiet" }, "No values yet.");
  const stepMs = Math.min(...lines.filter((l) => l.times.length > 1).map((l) => l.times[1] - l.times[0]), 3.6e6);
  const [start, end] = [Math.min(...stamps), Math.max(...stamps) + stepMs];
  let [low, high] = extent([...lines.flatMap((l) => l.values), ...bands.flatMap((b) => [...b.low, ...b.high])]);
  if (includeZero) low = Math.min(0, low);
  const x = (t) => left + ((t - start) / (end - start)) * (width - left - right);
  const y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);

  for (const [from, to] of shades) {
    svg.append(shape("rect", { class: "on", x: x(from), y: top, width: Math.max(0, x(to) - x(from)), height: height - top - bottom }));
  }
  for (const v of ticks(low, high, 4)) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
    svg.append(shape("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, number(v, 4)));
  }
  svg.append(shape("text", { x: 2, y: 9 }, unit));
  const days = localMidnights(start, end, zone);
  const every = Math.ceil(days.length / Math.max(2, Math.floor((width - left) / 62)));
  days.forEach((t, i) => {
    svg.append(shape("line", { class: "axis", x1: x(t), x2: x(t), y1: top, y2: height - bottom }));
    if (i % every === 0) {
      const name = new Date(t).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", timeZone: zone });
      if (x(t) + 40 < width) svg.append(shape("text", { x: x(t) + 3, y: height - 8 }, name));
    }
  });
  for (const band of bands) svg.append(shape("path", { class: `spread ${band.kind}`, d: bandPath(band, x, y) }));
  for (const line of lines) {
    svg.append(shape("path", { class: line.kind, d: stepsPath(line.times, line.values, x, y, isStepped, stepMs) }));
  }
  if (now && now > start && now < end) {
    svg.append(shape("line", { class: "now", x1: x(now), x2: x(now), y1: top, y2: height - bottom }));
    if (isNowNamed) svg.append(shape("text", { x: x(now) + 3, y: top - 4 }, "now"));
  }
  return svg;
}

function localMidnights(start, end, zone) {
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", hourCycle: "h23", timeZone: zone });
  const found = [];
  for (let t = Math.ceil(start / 3.6e6) * 3.6e6; t < end; t += 3.6e6) if (hour.format(t) === "00") found.push(t);
  return found;
}

// points: [{x, y, kind, title}]
export function scatter({ title, points, xName, yName, width, height = 260 }) {
  const svg = frame(width, height, title);
  const [left, right, top, bottom] = [46, 12, 18, 36];
  const [x0, x1] = extent(points.map((p) => p.x), 0.08);
  const [y0, y1] = extent(points.map((p) => p.y), 0.08);
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => top + (1 - (v - y0) / (y1 - y0)) * (height - top - bottom);
  for (const v of ticks(y0, y1, 5)) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
    svg.append(shape("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, number(v)));
  }
  for (const v of ticks(x0, x1, 5)) {
    svg.append(shape("line", { class: "grid", x1: x(v), x2: x(v), y1: top, y2: height - bottom }));
    svg.append(shape("text", { x: x(v), y: height - bottom + 14, "text-anchor": "middle" }, number(v)));
  }
  svg.append(shape("text", { x: 2, y: 10 }, yName));
  svg.append(shape("text", { x: width - right, y: height - 4, "text-anchor": "end" }, xName));
  for (const p of points) {
    const dot = shape("circle", { class: p.kind, cx: x(p.x), cy: y(p.y), r: p.kind === "dot" ? 3.5 : 6.5 });
    dot.append(shape("title", {}, p.title));
    svg.append(dot);
  }
  return svg;
}

// rows: [{name, value, low, high, state, note}]: one line per zone, the comfort band behind its dot.
export function zoneChart({ title, rows, width, unit, lowest, highest }) {
  const [left, right, top, line] = [Math.min(170, width * 0.4), 66, 22, 21];
  const height = top + rows.length * line + 6;
  const svg = frame(width, height, title);
  const x = (v) => left + ((Math.min(highest, Math.max(lowest, v)) - lowest) / (highest - lowest)) * (width - left - right);
  for (const v of ticks(lowest, highest, 6)) {
    svg.append(shape("line", { class: "grid", x1: x(v), x2: x(v), y1: top - 4, y2: height - 4 }));
    svg.append(shape("text", { x: x(v), y: 11, "text-anchor": "middle" }, number(v)));
  }
  svg.append(shape("text", { x: width - right + 30, y: 11, "text-anchor": "end" }, unit));
  rows.forEach((row, i) => {
    const middle = top + i * line + line / 2;
    if (Number.isFinite(row.low)) {
      svg.append(shape("rect", { class: "band", x: x(row.low), width: x(row.high) - x(row.low), y: middle - 7, height: 14, rx: 3 }));
    }
    svg.append(shape("text", { class: "label", x: 0, y: middle + 4 }, row.name));
    if (Number.isFinite(row.value)) {
      const dot = shape("circle", { class: row.state, cx: x(row.value), cy: middle, r: 5 });
      dot.append(shape("title", {}, `${row.name}: ${number(row.value)} ${unit}, ${row.note}`));
      svg.append(dot);
    }
    svg.append(shape("text", { class: "label", x: width, y: middle + 4, "text-anchor": "end" }, row.note));
  });
  return svg;
}
