// One unit: what it says, what it was told, and its last hours on a time line.

import { ask, unitPath } from "./requests.js";
import { age, clock, element, freshText, plain, reason, says, speed } from "./words.js";

const HOURS = 12;
const SHOWN_SIGNALS = { Speed: ["speed", "km/h"], "Powertrain.FuelSystem.RelativeLevel": ["fuel", "%"], "LowVoltageBattery.CurrentVoltage": ["battery", "V"], LowVoltageSystemState: ["ignition", ""], TraveledDistance: ["odometer", "m"] };

export class Detail {
  constructor(place, { onClose, onError, onTrack, openForm, onAsk }) {
    Object.assign(this, { place, onClose, onError, onTrack, openForm, onAsk });
    this.unit = null; this.records = []; this.asked = ""; this.shown = "";
    this.head = element("div"); this.facts = element("dl", { class: "facts" }); this.line = element("ol", { class: "line" });
    this.note = element("p", { class: "small" });
    place.append(this.head, this.facts, element("h3", {}, `Last ${HOURS} hours`), this.note, this.line);
  }

  show(unit, nowMs, who) {
    this.place.hidden = !unit;
    if (!unit) { this.asked = ""; this.shown = ""; return; }
    const name = unit.agency + "/" + unit.unit;
    if (this.asked !== name) { this.asked = name; this.records = []; this.shown = ""; this.load(unit, nowMs); this.header(unit, who); }
    this.unit = unit;
    this.fill(unit, nowMs);
  }

  header(unit, who) {
    const buttons = element("div", { class: "buttons" });
    if (who?.role === "dispatch") for (const [word, form] of [["Assign a call", "assign"], ["Change the call", "update"], ["Cancel the call", "cancel"], ["Send a message", "message"]])
      buttons.append(element("button", { type: "button", "data-form": form, onclick: () => this.openForm(form, this.unit) }, word));
    if (["dispatch", "fleet"].includes(who?.role)) for (const [word, name] of [["Report now", "report-now"], ["Are you there?", "ping"]])
      buttons.append(element("button", { type: "button", "data-ask": name, onclick: () => this.onAsk(name, word, this.unit) }, word));
    this.head.replaceChildren(element("div", { class: "top" }, element("h2", {}, unit.unit), element("button", { type: "button", "aria-label": "Close", onclick: this.onClose }, "✕")), buttons);
  }

  fill(unit, nowMs) {
    const pairs = [["Status", `${unit.emergency ? "EMERGENCY, " : ""}${plain(unit.status)}${unit.status_ms ? ` since ${clock(unit.status_ms)} (${age(unit.status_ms, nowMs)})` : ""}`],
      ["Call", callText(unit.call)],
      ["Going to", unit.destination?.destination ? `${unit.destination.destination}${unit.destination.eta ? `, there about ${clock(Date.parse(unit.destination.eta))}` : ""}` : "–"],
      ["Hint", unit.hint ? `looks like ${plain(unit.hint)}` : "–"],
      ["Position", unit.position ? `${unit.position.lat_deg.toFixed(5)}, ${unit.position.lon_deg.toFixed(5)}  ${freshText(unit, nowMs)}` : "unknown"],
      ["Speed", unit.freshness === "live" ? speed(unit.position?.speed_mps) : "–"],
      ["Link", unit.online === null ? "never seen" : `${unit.online ? "connected" : "no connection"}${unit.link_ms ? `, since ${clock(unit.link_ms)}` : ""}`],
      ["Health", unit.health.reasons.length ? unit.health.reasons.map((one) => reason(one) + (unit.health.details[one] ? ` (${unit.health.details[one]})` : "")).join("; ") : "well"],
      ["Waiting", unit.backlog_records === null || unit.backlog_records === undefined ? "–" : `${unit.backlog_records} records in the vehicle`],
      ["Vehicle", Object.entries(SHOWN_SIGNALS).filter(([name]) => unit.vehicle[name] !== null && unit.vehicle[name] !== undefined).map(([name, [word, unitOf]]) => `${word} ${unit.vehicle[name]} ${unitOf}`.trim()).join(", ") || "–"],
      ["Crew", unit.aboard ? Object.entries(unit.aboard).filter(([name]) => !["version", "boottime_ms"].includes(name) && !name.startsWith("utc")).map(([name, value]) => `${plain(name)} ${Array.isArray(value) ? value.join(", ") : value}`).join("; ") : "not told"]];
    const shown = JSON.stringify(pairs);
    if (shown === this.shown) return;
    this.shown = shown;
    this.facts.replaceChildren(...pairs.flatMap(([word, text]) => [element("dt", {}, word), element("dd", {}, text)]));
  }

  async load(unit, nowMs) {
    this.note.textContent = "loading"; this.line.replaceChildren();
    const span = `since=${nowMs - HOURS * 3600000}&until=${nowMs + 60000}`;
    try {
      const [events, track] = await Promise.all([ask(`/api/v1/events?${span}`).catch((error) => { if (error.status === 403) return []; throw error; }), ask(unitPath(unit, `/track?${span}`)).catch((error) => { if (error.status === 403) return null; throw error; })]);
      if (this.asked !== unit.agency + "/" + unit.unit) return;
      this.records = events.filter((one) => one.agency === unit.agency && one.unit === unit.unit);
      this.onTrack(track);
      this.drawLine();
    } catch (error) { this.note.textContent = `can not be read: ${error.message}`; }
  }

  add(records) {
    if (!this.unit) return;
    const mine = records.filter((one) => one.agency === this.unit.agency && one.unit === this.unit.unit)
      .map((one) => ({ ...one, at_ms: one.utc_ms ?? one.received_ms, data: JSON.parse(one.body) }));
    if (!mine.length) return;
    this.records.push(...mine);
    this.records.sort((a, b) => a.at_ms - b.at_ms);
    this.drawLine();
  }

  drawLine() {
    this.note.textContent = this.records.length ? "" : "nothing";
    this.line.replaceChildren(...this.records.slice(-200).reverse().map((one) => element("li", { class: one.kind },
      element("time", {}, clock(one.at_ms)), says(one), lateText(one))));
  }
}

function lateText(one) {
  const late = one.received_ms - one.at_ms;
  return late > 60000 ? element("span", { class: "small" }, `  came ${age(0, late)} later`) : null;
}

function callText(call) {
  if (!call) return "none";
  const f = call.fields;
  const state = call.acknowledged_ms ? "acknowledged" : call.shown_ms ? "shown" : call.received_ms ? "received" : "not acknowledged yet";
  return [call.incident, f.priority && `priority ${f.priority}`, f.nature, f.address, f.notes, state].filter(Boolean).join(" · ");
}
