// Charts. Time series are drawn by uPlot (lib/uplot.js, fetched by hatch_build.py); the front, whose points are controls, is SVG.
// Whoever cannot see a chart can open its values as a table, or walk through them with the arrow keys.

import { element, formatter, number, put, shape, unitName } from "./dom.js";

const live = new Set();
const colours = new Map(); // asked at every stroke, so looked up once per taste
const colour = (kind) => {
  if (!colours.has(kind)) colours.set(kind, getComputedStyle(document.documentElement).getPropertyValue(`--${kind}`).trim() || "#888");
  return colours.get(kind);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours.clear();
  live.forEach((u) => u.redraw());
});

const inZone = (seconds, parts) => formatter(parts).format(seconds * 1000);
const WALL = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric", hourCycle: "h23" };

// The wall clock of the building's zone as the fields of a Date: what uPlot asks where days and hours begin.
function wallClock(seconds) {
  const at = Object.fromEntries(formatter(WALL).formatToParts(seconds * 1000).map((p) => [p.type, Number(p.value)]));
  return new Date(at.year, at.month - 1, at.day, at.hour, at.minute, at.second);
}
const fullTime = (seconds) => inZone(seconds, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

function tickNames(u, splits, _axis, _space, incr) {
  return splits.map((s) => {
    const hour = inZone(s, { hour: "2-digit", minute: "2-digit" });
    return incr >= 86400 || hour === "00:00" ? inZone(s, { weekday: "short", day: "numeric" }) : hour;
  });
}

// Several series on the union of their times; null where one has no value.
function aligned(lines) {
  const times = [...new Set(lines.flatMap((l) => l.times))].sort((a, b) => a - b);
  const place = new Map(times.map((t, i) => [t, i]));
  const columns = lines.map((l) => {
    const column = new Array(times.length).fill(null);
    l.times.forEach((t, i) => { if (Number.isFinite(l.values[i])) column[place.get(t)] = l.values[i]; });
    return column;
  });
  return [times, columns];
}

// spec: {title, unit, lines: [{name, times (ms), values, kind, isStepped, isDots, isThin, isDashed}], bands: [{name, times, low, high, kind}],
//        shades: [[from, to]] (ms), now (ms), height, includeZero, onDrag(deltaValue, isDone)}
// A chart that is drawn again with other values keeps its canvas, its cursor and the focus.
export function timeChart(host, spec) {
  const lines = spec.lines.filter((l) => l.times.length);
  if (!lines.some((l) => l.values.some(Number.isFinite))) {
    forget(host);
    put(host, element("p", { class: "chart-title" }, spec.title), element("p", { class: "quiet" }, "No values yet."));
    return;
  }
  const bands = (spec.bands || []).filter((b) => b.times.length);
  const stepMs = Math.min(3.6e6, ...lines.filter((l) => l.times.length > 1).map((l) => l.times[1] - l.times[0]));
  const toItsEnd = (l) => ({ ...l, times: [...l.times, l.times.at(-1) + stepMs], values: [...l.values, l.values.at(-1)] });
  const all = [...lines.map((l) => (l.isStepped ? toItsEnd(l) : l)), ...bands.flatMap((b) => [{ ...b, values: b.low }, { ...b, values: b.high }])];
  const [times, columns] = aligned(all);
  const data = { spec, lines, columns, seconds: times.map((t) => t / 1000) };
  const kind = JSON.stringify([spec.title, spec.unit, spec.height, lines.map(({ name, kind: k, isStepped, isDots, isThin, isDashed }) => [name, k, isStepped, isDots, isThin, isDashed]), bands.map((b) => [b.name, b.kind]), !!spec.shades?.length]);
  if (host.chart && host.kindOfChart === kind) {
    host.chart.told = data;
    host.chart.plotted.setAttribute("aria-label", described(data));
    host.chart.asTable();
    host.chart.setData([data.seconds, ...columns]);
    return;
  }
  forget(host);
  host.kindOfChart = kind;

  const values = lines.map(() => element("b"));
  const time = element("span", { class: "reading-time quiet" });
  const names = element("ul", { class: "legend" }, ...lines.map((l, i) =>
    element("li", { class: `c-${l.kind} ${l.isDots ? "dot" : l.isDashed ? "dashed" : "line"}` }, element("span", {}, l.name, " ", values[i]))),
  ...bands.map((b) => element("li", { class: `c-${b.kind}-soft fill` }, element("span", {}, b.name))),
  ...(spec.shades?.length ? [element("li", { class: "c-on fill" }, element("span", {}, spec.shadeName || "system on"))] : []));
  const plot = element("div", { class: "plot", tabindex: 0, role: "img", "aria-label": described(data) });
  const spoken = element("p", { class: "unseen", role: "status" });
  const rows = element("div");
  const told = () => host.chart?.told || data;
  const fillTable = () => { if (asTable.open) put(rows, valuesTable(told())); };
  const asTable = element("details", { class: "as-table", ontoggle: fillTable }, element("summary", {}, "Values as a table"), rows);
  put(host, element("p", { class: "chart-title" }, `${spec.title} `, element("span", { class: "quiet" }, `[${spec.unit}]`), time), plot, names, spoken, asTable);

  if (!window.uPlot) {
    plot.remove();
    asTable.open = true;
    put(rows, valuesTable(data));
    host.append(element("p", { class: "quiet" }, "The chart library is missing on this host; python hatch_build.py fetches it."));
    return;
  }

  const read = (i) => {
    const isOff = i === null || i === undefined;
    lines.forEach((_, n) => { const v = isOff ? null : told().columns[n][i]; values[n].textContent = v === null || v === undefined ? "" : number(v, 4); });
    time.textContent = isOff ? "" : fullTime(told().seconds[i]);
  };
  const series = [{}, ...all.map((l, i) => (i < lines.length
    ? { stroke: () => colour(l.kind), width: l.isThin ? 1 : 2, dash: l.isDashed ? [5, 4] : undefined, spanGaps: l.isThin && l.isDashed,
      points: l.isDots ? { show: true, size: 8, fill: () => colour(l.kind) } : { show: false },
      paths: l.isDots ? () => null : l.isStepped ? window.uPlot.paths.stepped({ align: 1 }) : undefined }
    : { stroke: "transparent", width: 0, points: { show: false } }))];
  const axis = { stroke: () => colour("quiet"), grid: { stroke: () => colour("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const height = spec.height || 200;
  const u = new window.uPlot({
    width: Math.max(200, host.clientWidth), height,
    padding: [8, 10, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: !spec.onDrag, y: false }, points: { size: 7 } },
    tzDate: wallClock,
    scales: { y: { range: (_u, low, high) => room(low, high, spec.includeZero) } },
    axes: [{ ...axis, values: tickNames, space: 58, size: 26, gap: 3 }, { ...axis, size: 46, values: (_u, splits) => splits.map((v) => number(v, 4)) }],
    series,
    bands: bands.map((b, i) => ({ series: [lines.length + 2 * i + 2, lines.length + 2 * i + 1], fill: () => colour(`${b.kind}-soft`) })),
    hooks: {
      setCursor: [(self) => read(self.cursor.idx)],
      drawClear: [(self) => shade(self, told().spec.shades || [])],
      draw: [(self) => nowLine(self, told().spec.now)],
    },
  }, [data.seconds, ...columns], plot);
  Object.assign(u, { told: data, plotted: plot, asTable: fillTable });
  host.chart = u;
  live.add(u);
  if (spec.onDrag) dragged(u, (delta, isDone) => told().spec.onDrag(delta, isDone));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!step) return;
    event.preventDefault();
    const { seconds } = told();
    const from = u.cursor.idx ?? (step > 0 ? -1 : seconds.length);
    const i = Math.max(0, Math.min(seconds.length - 1, from + step));
    u.setCursor({ left: u.valToPos(seconds[i], "x"), top: 10 });
    spoken.textContent = `${fullTime(seconds[i])}: ${lines.map((l, n) => `${l.name} ${number(told().columns[n][i], 4)}`).join(", ")}`;
  });
  const watch = new ResizeObserver(() => {
    const width = Math.max(200, host.clientWidth);
    if (host.chart !== u) { watch.disconnect(); return; }
    if (Math.abs(width - u.width) > 1) u.setSize({ width, height });
  });
  watch.observe(host);
}

function forget(host) {
  host.chart?.destroy();
  live.delete(host.chart);
  host.chart = null;
  host.kindOfChart = null;
}

function described({ spec, lines, seconds }) {
  const spans = lines.map((l) => {
    const known = l.values.filter(Number.isFinite);
    return known.length ? `${l.name} ${number(Math.min(...known))} to ${number(Math.max(...known))}` : `${l.name} without values`;
  });
  return `${spec.title} [${spec.unit}], ${fullTime(seconds[0])} to ${fullTime(seconds.at(-1))}: ${spans.join(", ")}. Arrow keys read single values.`;
}

function room(low, high, includeZero) {
  if (low === null || high === null) return [0, 1];
  if (includeZero) low = Math.min(0, low);
  if (high - low < 1e-9) return [low - 1, high + 1];
  const pad = (high - low) * 0.07;
  return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
}

function shade(u, shades) {
  u.ctx.save();
  u.ctx.fillStyle = colour("on");
  for (const [from, to] of shades) {
    const left = Math.max(u.bbox.left, u.valToPos(from / 1000, "x", true));
    const right = Math.min(u.bbox.left + u.bbox.width, u.valToPos(to / 1000, "x", true));
    if (right > left) u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
  }
  u.ctx.restore();
}

function nowLine(u, now) {
  if (!now || now / 1000 < u.scales.x.min || now / 1000 > u.scales.x.max) return;
  const x = Math.round(u.valToPos(now / 1000, "x", true));
  u.ctx.save();
  u.ctx.strokeStyle = colour("quiet");
  u.ctx.setLineDash([4, 4]);
  u.ctx.beginPath();
  u.ctx.moveTo(x, u.bbox.top);
  u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
  u.ctx.stroke();
  u.ctx.restore();
}

function dragged(u, onDrag) {
  u.over.classList.add("draggable");
  u.over.addEventListener("pointerdown", (event) => {
    u.over.setPointerCapture(event.pointerId);
    const from = u.posToVal(event.offsetY, "y");
    const move = (e) => onDrag(u.posToVal(e.offsetY, "y") - from, false);
    u.over.addEventListener("pointermove", move);
    u.over.addEventListener("pointerup", (e) => { u.over.removeEventListener("pointermove", move); onDrag(u.posToVal(e.offsetY, "y") - from, true); }, { once: true });
  });
}

function valuesTable({ spec, seconds, lines, columns }) {
  return element("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": `${spec.title}, values` }, element("table", {},
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Time"), ...lines.map((l) => element("th", { scope: "col", class: "number" }, l.name)))),
    element("tbody", {}, ...seconds.map((s, i) => element("tr", {}, element("th", { scope: "row" }, fullTime(s)),
      ...lines.map((_, n) => element("td", { class: "number" }, number(columns[n][i], 4))))))));
}

// When a system runs, as stretches to shade.
export function stretches(times, isOn, stepMs) {
  const found = [];
  times.forEach((t, i) => {
    if (!isOn[i]) return;
    if (found.at(-1)?.[1] === t) found.at(-1)[1] = t + stepMs; else found.push([t, t + stepMs]);
  });
  return found;
}

const SETTING_KINDS = { heating_setpoint: "heat", cooling_setpoint: "cool", supply_air_temperature: "supply", outdoor_air_flow: "air", system_on: "predicted" };
const SETTING_ORDER = Object.keys(SETTING_KINDS);

// One small chart per setting, the own schedule dashed. Heating and cooling share one.
export function settingsCharts(host, { stamps, settings, own, now, name = "plan" }) {
  const times = stamps.map((s) => Date.parse(s));
  const stepMs = times.length > 1 ? times[1] - times[0] : 3.6e6;
  const on = settings.system_on?.values || [];
  const shades = stretches(times, on.map((v) => v > 0), stepMs);
  const names = Object.keys(settings).sort((a, b) => SETTING_ORDER.indexOf(a) - SETTING_ORDER.indexOf(b));
  const groups = [names.filter((n) => ["heating_setpoint", "cooling_setpoint"].includes(n)), ...names.filter((n) => !["heating_setpoint", "cooling_setpoint"].includes(n)).map((n) => [n])];
  const scale = (block) => block.values.map((v) => (v === null ? NaN : v * (block.unit === "1" ? 100 : 1)));
  const title = (n) => n.replaceAll("_", " ");
  const shown = groups.filter((g) => g.length);
  while (host.children.length > shown.length) host.lastChild.remove();
  while (host.children.length < shown.length) host.append(element("div", { class: "chart" }));
  shown.forEach((group, i) => {
    const place = host.children[i];
    const line = (block, n, label, isOwn) => ({ name: label, times, values: scale(block), kind: SETTING_KINDS[n] || "predicted", isStepped: true, isThin: isOwn, isDashed: isOwn });
    const lines = group.flatMap((n) => [line(settings[n], n, group.length > 1 ? `${title(n).replace(" setpoint", "")}, ${name}` : name, false),
      ...(own?.[n] ? [line(own[n], n, group.length > 1 ? `${title(n).replace(" setpoint", "")}, own schedule` : "own schedule", true)] : [])]);
    requestAnimationFrame(() => timeChart(place, { title: group.length > 1 ? "Heating and cooling setpoints" : title(group[0])[0].toUpperCase() + title(group[0]).slice(1),
      unit: unitName(settings[group[0]].unit), lines, shades: group[0] === "system_on" ? [] : shades, now, height: group.length > 1 ? 210 : 130, includeZero: group[0] === "outdoor_air_flow" }));
  });
}

function ticks(low, high, wanted = 5) {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((f) => f * power >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, i) => (first + i) * step);
}

function extent(values) {
  const known = values.filter(Number.isFinite);
  if (!known.length || known.every((v) => v === 0)) return [0, 1];
  return room(Math.min(...known), Math.max(...known), false);
}

// points: [{x, y, kind, title, key}]; those with a key can be chosen by pointer, Enter and the arrow keys.
export function scatter(host, { title, points, xName, yName, selected, onSelect }) {
  const width = Math.max(260, host.clientWidth), height = 270;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${title}. Arrow keys go from point to point, Enter shows its plan.` });
  const [left, right, top, bottom] = [52, 14, 22, 40];
  const [x0, x1] = extent(points.map((p) => p.x)), [y0, y1] = extent(points.map((p) => p.y));
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => top + (1 - (v - y0) / (y1 - y0)) * (height - top - bottom);
  for (const v of ticks(y0, y1)) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }), shape("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, number(v)));
  }
  for (const v of ticks(x0, x1, Math.max(2, Math.floor(width / 110)))) {
    svg.append(shape("line", { class: "grid", x1: x(v), x2: x(v), y1: top, y2: height - bottom }), shape("text", { x: x(v), y: height - bottom + 15, "text-anchor": "middle" }, number(v)));
  }
  svg.append(shape("text", { x: 2, y: 12 }, yName), shape("text", { x: width - right, y: height - 6, "text-anchor": "end" }, xName));
  const keyed = points.filter((p) => p.key !== undefined).sort((a, b) => a.x - b.x || b.y - a.y);
  const first = keyed.some((p) => p.key === selected) ? selected : keyed[0]?.key;
  const dots = new Map();
  for (const p of [...points].sort((a, b) => (a.key === selected) - (b.key === selected))) {
    const isSelected = p.key !== undefined && p.key === selected;
    const dot = shape("circle", { class: `${p.kind}${isSelected ? " selected" : ""}`, cx: x(p.x), cy: y(p.y), r: isSelected ? 8 : p.kind === "dot" ? 5 : 7 });
    dot.append(shape("title", {}, p.title));
    if (p.key !== undefined) {
      for (const [name, value] of Object.entries({ role: "button", tabindex: p.key === first ? 0 : -1, "aria-pressed": isSelected, "aria-label": p.title })) dot.setAttribute(name, value);
      dot.addEventListener("click", () => onSelect(p.key));
      dot.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onSelect(p.key); }
        if (!step) return;
        event.preventDefault();
        const next = keyed[(keyed.indexOf(p) + step + keyed.length) % keyed.length];
        dot.setAttribute("tabindex", -1);
        dots.get(next.key).setAttribute("tabindex", 0);
        dots.get(next.key).focus();
      });
      dots.set(p.key, dot);
    }
    svg.append(dot);
  }
  put(host, svg);
  return { focus: (key) => dots.get(key)?.focus() };
}
