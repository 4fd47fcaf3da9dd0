// Trade-offs: the plans that no other plan beats, energy against comfort against air; choose a point and see its plan.

import { scatter, settingsCharts } from "../charts.js";
import { card, element, field, figure, legend, number, objective, option, part, put, quiet, share, table, when } from "../dom.js";

export const title = "Trade-offs";
export const asks = { front: "/v1/front" };

export function build(root, page) {
  const panels = element("div", { class: "panels" }), why = element("p", { class: "quiet" }), list = element("div"), chosen = element("div");
  const against = element("select", { onchange: () => draw() });
  const third = field("Second panel", against);
  root.append(card("Energy against comfort against air", { class: "card wide" }, why, panels, third,
    legend([["possible", "dot", "dot"], ["chosen by the service", "chosen", "dot"], ["own schedule", "own", "own"], ["shown below", "ink", "ring"]]), list),
  card("The plan behind a point", { class: "card wide" }, chosen));
  let front = null, selected = null, followed = null, made = null;

  const values = (p) => Object.entries(p).map(([n, x]) => `${objective(n)[0]} ${number(x)}`).join(", ");
  const axis = (n) => `${objective(n)[0]} [${objective(n, front.objectives[n])[1]}]`;

  function draw(hasFocus = null) {
    if (!front) {
      put(panels);
      put(list);
      third.hidden = true;
      why.textContent = "No search has run yet: there is no front. Plans are searched by their cadence, or when an operator asks on the Plan view.";
      put(chosen, quiet("Nothing to show yet."));
      return;
    }
    const others = Object.keys(front.objectives).filter((n) => n !== "energy");
    if (against.options.length !== others.length) put(against, ...others.map((n) => option(n, objective(n)[0], n === "co2_excess")));
    third.hidden = others.length < 2;
    const first = others.includes("discomfort") ? "discomfort" : others[0];
    const shown = [...new Set([first, against.value || others.at(-1)])];
    while (panels.children.length > shown.length) panels.lastChild.remove();
    while (panels.children.length < shown.length) panels.append(element("div"));
    shown.forEach((name, i) => {
      const dots = front.points.map((p, key) => ({ x: p.values[name], y: p.values.energy, kind: p.is_chosen ? "chosen" : p.is_feasible ? "dot" : "dot barred", key,
        title: `${p.is_chosen ? "Chosen plan" : `Plan ${key}`}${p.is_feasible ? "" : " (breaks a limit)"}: ${values(p.values)}` }));
      const own = front.references[front.baseline];
      if (own) dots.push({ x: own[name], y: own.energy, kind: "own", title: `Own schedule: ${values(own)}` });
      const handle = scatter(panels.children[i], { title: `Energy against ${objective(name)[0]}`, points: dots, xName: axis(name), yName: axis("energy"), selected,
        onSelect: (key) => { choose(key, i); } });
      if (dots.every((d) => d.x === dots[0].x)) panels.children[i].append(quiet(`${objective(name)[0]} is ${number(dots[0].x)} for every plan, and for the own schedule.`));
      if (hasFocus === i) handle.focus(selected);
    });
    why.textContent = `${front.points.length} plans that no other plan beats, as predicted on ${when(front.made)}. Less is better on every axis: nearer to the lower left corner. Choose a point by pointer, or by arrow keys and Enter.`;
    put(list, element("details", {}, element("summary", {}, "All points as a table"), table("Plans of the front", ["Plan", ...Object.keys(front.objectives).map(axis), "Keeps the limits", "Show"],
      front.points.map((p, i) => [p.is_chosen ? `${i}, chosen` : `${i}`, ...Object.keys(front.objectives).map((n) => p.values[n]), p.is_feasible ? "yes" : "no",
        element("button", { type: "button", "aria-label": `Show plan ${i}`, onclick: () => choose(i, null) }, "Show")]))));
  }

  async function choose(key, panel) {
    selected = key;
    draw(panel);
    if (panel === null) chosen.scrollIntoView({ block: "nearest" });
    const point = await page.ask(`/v1/front/${key}`);
    if (key !== selected) return;
    if (!point) { put(chosen, quiet("The plan behind this point is not kept: this front is of an earlier version. The next search keeps them.")); return; }
    const own = front.references[front.baseline] || {};
    const saved = own.energy > 0 ? 1 - point.values.energy / own.energy : NaN;
    const week = element("div");
    put(chosen, element("dl", { class: "figures" }, Number.isFinite(saved) ? figure("Energy saved", share(saved), "", "predicted, against the own schedule") : null,
      ...Object.entries(point.values).map(([n, x]) => figure(...[objective(n)[0], number(x), objective(n, front.objectives[n])[1]], Number.isFinite(own[n]) ? `own schedule ${number(own[n])}` : ""))),
    element("p", { class: "buttons" }, `Plan ${key}${point.is_chosen ? ", chosen by the service" : ""}${point.is_feasible ? "" : ", breaks a limit"}. `,
      element("a", { class: "button", href: `#what-if?base=front&point=${key}` }, "Change it in What if")), week);
    settingsCharts(week, { ...point, now: page.now(), name: `plan ${key}` });
  }

  const onFront = part(panels, (_node, data) => {
    front = data;
    if (front && made !== front.made) { selected = null; made = front.made; }
    draw();
    const place = front ? front.points.findIndex((p) => p.is_chosen) : -1;
    if (front && selected === null && followed !== made) { followed = made; choose(place >= 0 ? place : 0, undefined); }
  });
  addEventListener("resize", () => { if (panels.isConnected) draw(); });
  return { update: ({ front: data }) => onFront(data) };
}
