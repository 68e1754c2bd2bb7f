// Alarms: three priorities, few. Acknowledged stays until closed; an emergency is never shelved, and sounds until seen.

import { ask } from "./requests.js";
import { age, clock, element } from "./words.js";

const RANK = { high: 0, medium: 1, low: 2 };
const SIGN = { high: "◆ EMERGENCY", medium: "▲", low: "■" };
const MOST_SHOWN = 8;

export class Alarms {
  constructor(place, { onChoose, onError }) {
    this.place = place;
    this.onChoose = onChoose;
    this.onError = onError;
    this.sound = new Sound();
    this.shown = "";
  }

  show(alarms, nowMs, mayAct) {
    const there = alarms.filter((one) => one.priority === "high" || !(one.shelved_until_ms > nowMs))
      .sort((a, b) => RANK[a.priority] - RANK[b.priority] || Number(a.acknowledged_ms !== null) - Number(b.acknowledged_ms !== null) || b.raised_ms - a.raised_ms);
    this.sound.beep(there.some((one) => one.priority === "high" && one.acknowledged_ms === null));
    const loud = there.filter((one) => one.priority === "high");
    const rest = there.filter((one) => one.priority !== "high");
    const listed = [...loud, ...rest.slice(0, Math.max(3, MOST_SHOWN - loud.length))];
    const shown = JSON.stringify([listed, mayAct, there.length, Math.floor(nowMs / 10000)]);
    if (shown === this.shown) return;
    this.shown = shown;
    const focused = document.activeElement?.dataset?.alarm;
    this.place.replaceChildren(...listed.map((one) => this.row(one, nowMs, mayAct)));
    if (there.length > listed.length) this.place.append(element("p", { class: "alarm low" }, `and ${there.length - listed.length} more of low or medium priority`));
    if (focused) this.place.querySelector(`[data-alarm="${CSS.escape(focused)}"]`)?.focus();
  }

  row(one, nowMs, mayAct) {
    const seen = one.acknowledged_ms !== null;
    const ended = one.cleared_ms !== null ? `, ended ${clock(one.cleared_ms)}` : "";
    const by = seen ? `, seen by ${one.acknowledged_by} ${clock(one.acknowledged_ms)}` : "";
    const row = element("div", { class: `alarm ${one.priority}${seen ? " seen" : ""}`, role: one.priority === "high" && !seen ? "alert" : null },
      element("span", { class: "sign" }, SIGN[one.priority]),
      element("button", { type: "button", onclick: () => this.onChoose(`${one.agency}/${one.unit}`) }, one.unit),
      element("span", { class: "what" }, `${one.text} ${clock(one.raised_ms)}, ${age(one.raised_ms, nowMs)} ago${ended}${by}`));
    if (!mayAct) return row;
    const act = (word, step, more = {}) => element("button", { type: "button", "data-alarm": `${one.alarm_id}-${step}`, onclick: () => this.act(one, step, more) }, word);
    if (!seen) row.append(act("Acknowledge", "acknowledge"));
    else row.append(act("Close", "close"));
    if (one.priority !== "high") row.append(act("Shelve 15 min", "shelve", { for_s: 900 }));
    return row;
  }

  async act(one, step, more) {
    try { await ask(`/api/v1/alarms/${one.alarm_id}`, { method: "POST", body: { step, ...more } }); }
    catch (error) { this.onError(error.message); }
  }
}

// Three tones with harmonics below 4 kHz, again and again while an emergency is not seen.
export class Sound {
  constructor() { this.on = true; this.context = null; this.nextAt = 0; }

  get blocked() { return this.on && (this.context === null || this.context.state !== "running"); }

  wake() {
    this.context ??= new AudioContext();
    if (this.context.state === "suspended") this.context.resume().catch(() => {});
  }

  beep(wanted) {
    if (!wanted || !this.on || this.context?.state !== "running") return;
    const now = this.context.currentTime;
    if (now < this.nextAt) return;
    this.nextAt = now + 2.5;
    [0, 0.22, 0.44].forEach((delay, at) => {
      [523, 659, 784].slice(at, at + 1).forEach((hertz) => {
        const gain = this.context.createGain();
        gain.connect(this.context.destination);
        gain.gain.setValueAtTime(0.2, now + delay);
        gain.gain.exponentialRampToValueAtTime(0.001, now + delay + 0.18);
        const tone = this.context.createOscillator();
        tone.type = "square"; tone.frequency.value = hertz;
        tone.connect(gain); tone.start(now + delay); tone.stop(now + delay + 0.2);
      });
    });
  }
}
