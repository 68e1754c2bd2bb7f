// The list of units: one row each, made once and changed in place, so that 200 of them cost nothing.

import { FREE, age, element, freshText, key, plain } from "./words.js";

export class UnitList {
  constructor(body, onChoose) {
    this.body = body;
    this.onChoose = onChoose;
    this.rows = new Map();
    this.search = "";
    this.onlyFree = false;
    this.order = "";
    body.addEventListener("keydown", (event) => this.move(event));
  }

  show(units, nowMs, chosen) {
    const names = [];
    for (const unit of units) {
      const name = key(unit);
      names.push(name);
      let row = this.rows.get(name);
      if (!row) {
        row = element("tr", { tabindex: "0", "data-unit": name }, ...Array.from({ length: 5 }, () => element("td")));
        row.addEventListener("click", () => this.onChoose(name));
        this.rows.set(name, row);
      }
      this.fill(row, unit, nowMs, name === chosen);
    }
    const order = names.join("\n");
    if (order !== this.order) {
      this.order = order;
      this.body.replaceChildren(...names.map((name) => this.rows.get(name)));
    }
  }

  fill(row, unit, nowMs, chosen) {
    const old = unit.freshness !== "live" && unit.freshness !== "late";
    const spare = unit.for_calls === false && FREE.has(unit.status) ? ", not for calls" : "";
    const why = unit.reason ? ` (${plain(unit.reason)})` : "";
    const status = unit.emergency ? `EMERGENCY, ${plain(unit.status)}` : plain(unit.status) + why + spare;
    const texts = [unit.unit, status, unit.status_ms ? age(unit.status_ms, nowMs) : "–", unit.call?.incident ?? unit.incident ?? "", freshText(unit, nowMs)];
    texts.forEach((text, at) => { if (row.children[at].textContent !== text) row.children[at].textContent = text; });
    const position = `fresh-${unit.freshness}`;
    if (row.children[4].className !== position) row.children[4].className = position;
    const free = FREE.has(unit.status) && unit.for_calls !== false ? "free" : "";
    if (row.children[1].className !== free) row.children[1].className = free;
    const classes = `${unit.emergency ? "emergency " : ""}${old ? "old" : ""}`;
    if (row.className !== classes) row.className = classes;
    row.setAttribute("aria-selected", chosen ? "true" : "false");
    const wanted = this.search.toLowerCase();
    const hidden = (wanted && !texts.join(" ").toLowerCase().includes(wanted)) || (this.onlyFree && !FREE.has(unit.status));
    // A unit in an emergency is never filtered away.
    if (row.hidden !== (hidden && !unit.emergency)) row.hidden = hidden && !unit.emergency;
  }

  move(event) {
    const row = event.target.closest("tr");
    if (!row) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.onChoose(row.dataset.unit); }
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    let other = row[step];
    while (other?.hidden) other = other[step];
    other?.focus();
  }
}
