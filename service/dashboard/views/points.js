// Points: every topic with its last value, unit, flag and age; what was refused, and why.

import { age, card, element, field, number, option, put, quiet, scaled, table, unitName, when, words } from "../dom.js";

export const title = "Points";
export const asks = { points: "/v1/points" };

const OLD_S = 7200;

export function build(root, page) {
  const rows = element("div"), refusals = element("div"), count = element("p", { class: "quiet", role: "status" });
  const search = element("input", { type: "search", placeholder: "name, topic, zone", oninput: () => draw() });
  const role = element("select", { onchange: () => draw() }, option("", "all"));
  const state = element("select", { onchange: () => draw() }, option("", "all"), option("fresh", "good and fresh"), option("silent", "silent for two hours"), option("never", "never heard"), option("flagged", "flagged"));
  root.append(card("Every measured point", { class: "card wide" }, element("div", { class: "row" }, field("Find", search), field("Kind", role), field("State", state)), count, rows),
    card("Refused messages", { class: "card wide" }, refusals));
  let points = [];

  const isIn = (p) => {
    const text = `${p.variable} ${words(p.variable)} ${p.topic} ${p.zone || ""} ${p.meaning}`.toLowerCase();
    return search.value.trim().toLowerCase().split(/\s+/).every((w) => text.includes(w)) && (!role.value || p.role === role.value) && ({
      fresh: p.flag === "good" && p.age_s !== null && p.age_s <= OLD_S, silent: p.age_s !== null && p.age_s > OLD_S, never: p.age_s === null,
      flagged: p.flag !== null && p.flag !== "good",
    }[state.value] ?? true);
  };
  function draw() {
    const found = points.filter(isIn);
    count.textContent = points.length ? `${found.length} of ${points.length} points.` : "This building has no measured points: its points file is empty.";
    put(rows, found.length ? table("Points", ["Variable", "Value", "Unit", "Flag", "Age", "Last", "Topic"], found.map((p) => [
      element("span", { title: p.meaning }, p.variable), p.value === null ? "–" : number(scaled(p.value, p.unit), 4), unitName(p.unit),
      element("span", { class: p.flag === "good" ? "good" : p.flag ? "warn" : "quiet" }, p.flag ? words(p.flag) : "none"),
      element("span", { class: p.age_s === null || p.age_s > OLD_S ? "bad" : "" }, age(p.age_s)), when(p.stamp), element("code", {}, p.topic)])) : points.length ? quiet("No point is like that.") : null);
  }
  let shown = "";
  return {
    update(answers) {
      const known = answers.points || [];
      const text = JSON.stringify([known.map((p) => ({ ...p, age_s: age(p.age_s) })), page.status.refusals]);
      if (text === shown) return;
      shown = text;
      points = known;
      const roles = [...new Set(points.map((p) => p.role))];
      if (role.options.length !== roles.length + 1) put(role, option("", "all"), ...roles.map((r) => option(r, r)));
      draw();
      const refused = page.status.refusals;
      put(refusals, refused.length ? table("Refused messages", ["Because", "Count", "Last", "Topic", "Detail"], refused.map((r) => [words(r.reason), r.n, when(r.last), element("code", {}, r.topic), r.detail])) : quiet("No message was refused."));
    },
  };
}
