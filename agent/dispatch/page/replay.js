// A past day on the same map, at any speed. It is never mistaken for now: the frame, the banner and the clock say so.

import { ask } from "./requests.js";
import { clock, day, element, key } from "./words.js";

const SPEEDS = [1, 10, 30, 60, 300];

export class Replay {
  constructor(form, { onFrame, onEnd, onError }) {
    Object.assign(this, { form, onFrame, onEnd, onError });
    this.running = false; this.records = []; this.speed = 30; this.playing = false;
  }

  open(nowMs) {
    this.running = true;
    const from = element("input", { type: "datetime-local", "aria-label": "from", required: true });
    from.value = `${day(nowMs - 3600000)}T${clock(nowMs - 3600000, { seconds: false })}`;
    this.hours = element("input", { type: "number", min: "0.25", max: "24", step: "0.25", value: "1", "aria-label": "hours", style: "width:5rem" });
    this.play = element("button", { type: "button", disabled: true, onclick: () => { this.playing = !this.playing; this.play.textContent = this.playing ? "Pause" : "Play"; } }, "Play");
    this.slider = element("input", { type: "range", min: "0", max: "1000", value: "0", "aria-label": "moment" });
    this.slider.addEventListener("input", () => { this.at = this.since + (this.until - this.since) * this.slider.value / 1000; this.rewind(); });
    const rate = element("select", { "aria-label": "speed", onchange: () => { this.speed = Number(rate.value); } }, ...SPEEDS.map((one) => element("option", { value: one, selected: one === this.speed }, `${one}×`)));
    this.when = element("time");
    this.form.replaceChildren(from, this.hours, element("span", {}, "hours"), element("button", { type: "submit" }, "Load"), this.play, rate, this.slider, this.when,
      element("button", { type: "button", onclick: () => this.close() }, "Back to now"));
    this.form.onsubmit = (event) => { event.preventDefault(); this.load(new Date(from.value).getTime(), Number(this.hours.value)); };
    this.form.hidden = false;
    from.focus();
  }

  async load(since, hours) {
    this.since = since; this.until = since + hours * 3600000;
    try {
      const given = await ask(`/api/v1/replay?since=${this.since}&until=${this.until}`);
      this.records = given.records;
      if (!given.complete) this.onError("More than can be played at once: the end is missing. Take fewer hours.");
      if (!this.records.length) this.onError("Nothing was stored in these hours.");
      this.at = this.records[0]?.at_ms ?? this.since;
      this.play.disabled = false; this.playing = true; this.play.textContent = "Pause";
      this.rewind();
      this.lastMs = performance.now();
    } catch (error) { this.onError(error.message); }
  }

  rewind() { this.next = 0; this.units = new Map(); this.step(0); }

  tick() {
    const now = performance.now();
    const passed = Math.min(1000, now - (this.lastMs ?? now));
    this.lastMs = now;
    if (this.playing && this.records.length) this.step(passed * this.speed);
  }

  step(ms) {
    this.at = Math.min(this.until, this.at + ms);
    while (this.next < this.records.length && this.records[this.next].at_ms <= this.at) this.take(this.records[this.next++]);
    this.slider.value = String(Math.round(1000 * (this.at - this.since) / (this.until - this.since)));
    this.when.textContent = `${day(this.at)} ${clock(this.at)}`;
    const units = [...this.units.values()].map((one) => ({ ...one, freshness: one.position_ms === null ? "none" : this.at - one.position_ms > 150000 ? "stale" : "live" }));
    this.onFrame(units.sort((a, b) => key(a).localeCompare(key(b), undefined, { numeric: true })), this.at);
    if (this.at >= this.until) { this.playing = false; this.play.textContent = "Play"; }
  }

  take(record) {
    const name = key(record);
    const unit = this.units.get(name) ?? { agency: record.agency, unit: record.unit, position: null, position_ms: null, status: null, status_ms: null, emergency: false, call: null, freshness: "none" };
    if (record.kind === "position") Object.assign(unit, { position: record.data, position_ms: record.at_ms });
    if (record.kind === "status") Object.assign(unit, { status: record.data.status, status_ms: record.at_ms });
    if (record.kind === "emergency") unit.emergency = record.data.active;
    this.units.set(name, unit);
  }

  close() { this.running = false; this.playing = false; this.records = []; this.form.hidden = true; this.form.replaceChildren(); this.onEnd(); }
}
