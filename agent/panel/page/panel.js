// The crew's panel. It keeps nothing: what stands on it is what the daemon last said, and a press that the
// daemon did not take is refused in plain sight. Whatever comes from outside is put in as text, never as markup.
import { ageText, lampText } from "./lamps.js";
import { guard } from "./guard.js";

const $ = (id) => document.getElementById(id);
const SILENT_AFTER_MS = 2000, MOST_SIGNS = 4;
let words = {}, settings = {}, now = null, heardAt = 0, byHand = null, saying = new Set(), pressedAt = new Map();

const w = (key) => words[key] ?? key;
const text = (id, value) => { const node = $(id); if (node.textContent !== value) node.textContent = value; };
const show = (id, visible) => { $(id).hidden = !visible; };

async function act(action, aloud = true) {
  try {
    const response = await fetch("/act", { method: "POST", body: JSON.stringify(action), headers: { "Content-Type": "application/json" } });
    const answer = await response.json();
    if (!response.ok && aloud) refuse(answer.error, answer.text);
    return answer;
  } catch (error) {
    if (aloud) refuse("panel_away", "");
    return { error: "panel_away" };
  }
}

// Said once it is on the screen, and again until the daemon knows it: one that was away has to be told anew.
async function say(action) {
  const key = JSON.stringify(action);
  if (saying.has(key)) return;
  saying.add(key);
  const answer = await act(action, false);
  setTimeout(() => saying.delete(key), answer.error ? 2000 : 500);
}

function refuse(token, sentence) {
  text("answer", `✖ ${words[`refused_${token}`] ?? sentence ?? token}`);
  show("answer", true);
  clearTimeout(refuse.timer);
  refuse.timer = setTimeout(() => show("answer", false), 8000);
}

function makeTiles(keys) {
  const tiles = $("tiles"), wanted = keys.map((key) => key.key).join("\n");
  if (tiles.dataset.keys === wanted) return;
  tiles.dataset.keys = wanted;
  tiles.replaceChildren(...keys.map((key) => {
    const tile = document.createElement("button");
    tile.type = "button";
    tile.className = "tile";
    tile.dataset.key = key.key;
    const name = document.createElement("span"), lamp = document.createElement("span");
    name.className = "name";
    lamp.className = "lamp";
    lamp.setAttribute("aria-live", "polite");
    for (const part of ["shape", "word"]) {
      const node = document.createElement("span");
      node.className = part;
      lamp.append(node, " ");
    }
    tile.append(name, lamp);
    tile.addEventListener("click", () => press(key));
    return tile;
  }));
}

function press(key) {
  pressedAt.set(key.key, performance.now());
  const reasons = now?.reasons?.[key.token];
  if (reasons?.length && !driving()) {
    sheet(words[`status_${key.token}`] ?? key.token, reasonEntries(reasons, (reason) => act({ do: "press", key: key.key, reason })));
  } else {
    act({ do: "press", key: key.key });
  }
}

const reasonEntries = (reasons, done) => (reasons ?? []).map((reason) => [words[`reason_${reason}`] ?? reason, () => done(reason)]);

function sheet(title, entries, note = "") {
  const dialog = $("sheet"), body = $("sheet-body");
  dialog.querySelector("h2").textContent = title;
  const nodes = entries.map(([label, done]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => { dialog.close(); done(); });
    return button;
  });
  if (note) { const p = document.createElement("p"); p.textContent = note; nodes.unshift(p); }
  body.replaceChildren(...nodes);
  if (!dialog.open) dialog.show();
}

function ask(title, label, done, numeric = false) {
  const dialog = $("sheet"), body = $("sheet-body");
  dialog.querySelector("h2").textContent = title;
  const caption = document.createElement("label"), input = document.createElement("input"), send = document.createElement("button");
  caption.textContent = label;
  input.inputMode = numeric ? "numeric" : "text";
  input.maxLength = 64;
  caption.append(input);
  send.type = "button";
  send.textContent = w("send");
  send.addEventListener("click", () => { dialog.close(); done(input.value.trim()); });
  body.replaceChildren(caption, send);
  if (!dialog.open) dialog.show();
  input.focus();
}

const driving = () => Boolean(now?.motion?.driving) && !settings.passenger;

function draw() {
  const fresh = now !== null && performance.now() - heardAt < SILENT_AFTER_MS;
  show("away", !fresh);
  if (!fresh) text("away", performance.now() - heardAt < SILENT_AFTER_MS ? w("agent_away") : w("panel_away"));
  for (const button of document.querySelectorAll("#tiles button, #emergency, #ack-call, #ack-message, #why")) button.disabled = !fresh;
  document.body.classList.toggle("driving", driving());
  if ((driving() || !fresh) && $("sheet").open) $("sheet").close();
  document.body.classList.toggle("stale", !fresh);
  document.documentElement.dataset.palette = byHand ?? (now?.night ? "night" : "day");
  text("palette", document.documentElement.dataset.palette === "night" ? w("day") : w("night"));
  if (now === null) { $("undo").disabled = true; return; }
  makeTiles(now.keys);
  text("call-sign", now.unit.call_sign);
  text("incident", now.incident ?? "");
  const status = now.status;
  text("status", status.token ? (words[`status_${status.token}`] ?? status.token) : w("no_status"));
  text("age", status.age_s === null ? "" : ageText(status.age_s + (performance.now() - heardAt) / 1000, words));
  for (const key of now.keys) {
    const tile = $("tiles").querySelector(`[data-key="${CSS.escape(key.key)}"]`);
    const name = words[`status_${key.token}`] ?? key.token;
    tile.querySelector(".name").textContent = name;
    const [shape, word] = lampText(key.lamp, words);
    if (tile.dataset.lamp !== key.lamp) { tile.querySelector(".shape").textContent = shape; tile.querySelector(".word").textContent = word; }
    tile.dataset.lamp = key.lamp;
    tile.classList.toggle("holds", key.token === status.token);
    tile.classList.toggle("hinted", key.token === now.hint?.suggests);
    tile.setAttribute("aria-pressed", String(key.token === status.token));
    if (pressedAt.has(key.key) && key.lamp !== "off" && key.lamp !== "not_stored") {
      performance.measure(`stored ${key.key}`, { start: pressedAt.get(key.key), end: performance.now() });
      pressedAt.delete(key.key);
    }
  }
  drawSigns();
  drawCall();
  drawMessage();
  drawHint();
  soundOfDaemon();
  show("why", Boolean(now.reasons?.[status.token]?.length) && !status.reason);
  if (status.refused) refuse(status.refused.reason, status.refused.text);
  $("undo").disabled = !fresh || !(status.undo_s > 0);
  const emergency = now.emergency;
  const sign = !emergency.active ? "" : emergency.received ? " ··" : emergency.sent ? " ·" : " …";
  $("emergency").querySelector(".text").textContent = w(emergency.active && emergency.is_test ? "emergency_test" : "emergency") + sign;
}

function drawSigns() {
  const signs = [now.link.connected ? [false, w("link_up")] : [true, w("link_down")]];
  if (now.health.length) signs.push([true, w("system_ill")]);
  if (!now.available_for_calls) signs.push([true, w("not_for_calls")]);
  if (driving() && unread(now).some((one) => !one.order)) signs.push([true, w("message")]);
  if (now.backlog.presses > 0) signs.push([true, `${now.backlog.presses} ${w("waiting")}`]);
  signs.push(now.gnss.fix ? [false, w("gnss_up")] : [true, w("gnss_down")]);
  if (!now.receipts && now.link.connected) signs.push([false, w("no_receipts")]);
  // What is well is not worth the room that something which is not well needs.
  const bad = signs.filter(([wrong]) => wrong);
  if (bad.length) signs.splice(0, signs.length, ...bad.slice(0, MOST_SIGNS));
  const key = JSON.stringify(signs);
  if ($("signs").dataset.key === key) return;
  $("signs").dataset.key = key;
  $("signs").replaceChildren(...signs.map(([bad, label]) => {
    const item = document.createElement("li");
    item.textContent = bad ? `▲ ${label}` : label;
    item.className = bad ? "bad" : "";
    return item;
  }));
}

function drawCall() {
  const call = now.call;
  show("call", call !== null);
  if (call === null) return;
  text("address", [call.priority, call.address ?? call.incident].filter(Boolean).join(" · "));
  text("nature", [call.nature, words[`mode_${call.response_mode}`] ?? call.response_mode, ...(call.alternates ?? [])].filter(Boolean).join(" · "));
  const place = now.hospitals?.find((one) => one.id === call.destination)?.name ?? call.destination;
  text("destination", place ? `→ ${place}${call.eta_min === null || call.eta_min === undefined ? "" : ` ${call.eta_min} ${w("minutes")} (${w("estimated")})`}` : "");
  show("ack-call", !call.acknowledged);
  show("show-notes", call.acknowledged && Boolean(call.notes));
  show("choose-destination", call.acknowledged);
  if (!call.shown) say({ do: "shown", incident: call.incident });
  if (!call.acknowledged) sound();
}

const unread = (what) => (what.messages ?? []).filter((one) => !one.acknowledged);
const wordsOf = (message) => (message.order ? words[`order_${message.order}`] ?? message.order : message.text);

// The oldest that nobody acknowledged. Words of a person are not for somebody who drives; a coded order is.
function drawMessage() {
  const waiting = unread(now).reverse(), message = waiting.find((one) => !driving() || one.order);
  show("message", Boolean(message));
  document.body.classList.toggle("has-message", Boolean(message));
  if (waiting.length) sound();
  if (!message) return;
  text("message-text", wordsOf(message));
  $("ack-message").dataset.message = message.id;
  if (!message.shown) say({ do: "message_shown", message: message.id });
}

function drawHint() {
  const hint = now.hint;
  show("hint", Boolean(hint));
  if (hint) text("hint", `${w("hint_asks")} ${words[`status_${hint.suggests}`] ?? hint.suggests}`);
}

let audio = null, soundedAt = 0, soundedNumber = null;
const PULSES_MS = [150, 150, 150, 150, 150];

// Pulses of a tone with its harmonics, on and off in turns: a pure tone is lost in a cab.
function play(patternMs) {
  audio ??= new AudioContext();
  let at = audio.currentTime;
  patternMs.forEach((ms, index) => {
    for (const hertz of index % 2 ? [] : [330, 660, 990, 1320, 1650]) {
      const tone = audio.createOscillator(), level = audio.createGain();
      tone.frequency.value = hertz;
      level.gain.setValueAtTime(0.08, at);
      level.gain.setTargetAtTime(0, at + ms / 1000, 0.02);
      tone.connect(level).connect(audio.destination);
      tone.start(at);
      tone.stop(at + ms / 1000 + 0.1);
    }
    at += ms / 1000;
  });
}

// With a buzzer configured the daemon says what is heard, each with a number of its own; else the page asks by itself.
function sound() {
  if (now.sound || !settings.sound || performance.now() - soundedAt < (settings.sound_every_s ?? 5) * 1000) return;
  soundedAt = performance.now();
  play(PULSES_MS);
}

function soundOfDaemon() {
  if (now.sound && settings.sound && soundedNumber !== null && now.sound.number !== soundedNumber) play(now.sound.pattern_ms);
  soundedNumber = now.sound?.number ?? null;
}

function more() {
  const entries = [[w("message_list"), messages], [w("delay"), () => sheet(w("delay"), reasonEntries(now?.delay_reasons, (reason) => act({ do: "reason", reason })))],
    [now?.available_for_calls ? w("not_for_calls") : w("for_calls"), forCalls], [w("amend"), amend], [w("sign_on"), signOn], [w("sign_off"), () => act({ do: "sign_off" })]];
  for (const key of now?.more_keys ?? []) entries.push([words[`status_${key.token}`] ?? key.token, () => press(key)]);
  entries.push([w("health"), health]);
  if (now?.emergency.active) entries.push([w("cancel_emergency"), () => ask(w("cancel_emergency"), w("code"), cancel, true)]);
  else entries.push([w("test_emergency"), testEmergency]);
  sheet(w("more"), entries);
}

function signOn() {
  ask(w("sign_on"), w("crew_ids"), (ids) => act({ do: "sign_on", crew: ids.split(/[ ,]+/).filter(Boolean) }));
}

function forCalls() {
  if (!now?.available_for_calls) { act({ do: "available_for_calls", value: true }); return; }
  sheet(w("not_for_calls"), reasonEntries(now.reasons?.out_of_service, (reason) => act({ do: "available_for_calls", value: false, reason })));
}

function cancel(code) {
  const crew = now?.crew ?? [];
  if (crew.length < 2) { act({ do: "cancel_emergency", code }); return; }
  sheet(w("who_cancels"), crew.map((by) => [by, () => act({ do: "cancel_emergency", code, by })]));
}

// Two buttons: what the key says while the first is held is a test, the second is a test of this page.
function testEmergency() {
  sheet(w("test_emergency"), [], w("test_how"));
  const [key, page] = ["test_key", "test_page"].map((word) => {
    const button = document.createElement("button"), fill = document.createElement("span"), label = document.createElement("span");
    button.type = "button";
    button.id = word.replace("_", "-");
    fill.className = "fill";
    label.className = "text";
    label.textContent = w(word);
    button.append(fill, label);
    return button;
  });
  let repeating = 0;
  const hold = () => {
    if (repeating) return;
    key.classList.add("held");
    const tell = () => act({ do: "emergency_test", held: true });
    repeating = setInterval(tell, 500);
    tell();
  };
  const release = () => {
    if (!repeating) return;
    key.classList.remove("held");
    clearInterval(repeating);
    repeating = 0;
    act({ do: "emergency_test", held: false }, false);
  };
  key.addEventListener("pointerdown", (event) => { key.setPointerCapture(event.pointerId); hold(); });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture", "blur", "keyup"]) key.addEventListener(name, release);
  key.addEventListener("keydown", (event) => { if (event.key === " " && !event.repeat) { event.preventDefault(); hold(); } });
  $("sheet").addEventListener("close", release, { once: true });
  guard(page, () => { $("sheet").close(); act({ do: "emergency", test: true }); });
  $("sheet-body").append(key, page);
}

function messages() {
  sheet(w("message_list"), (now?.messages ?? []).map((message) => [`${message.acknowledged ? "✔ " : ""}${wordsOf(message)}`, () => act({ do: "acknowledge_message", message: message.id })]), now?.messages?.length ? "" : w("none"));
}

function amend() {
  sheet(w("amend"), (now?.recent ?? []).map((press) => [`${words[`status_${press.token}`] ?? press.token} ${press.time}`, () =>
    ask(w("amend"), w("minutes_earlier"), (minutes) => act({ do: "amend", seq: press.seq, earlier_s: Number(minutes) * 60, }), true)]), now?.recent?.length ? "" : w("none"));
}

function health() {
  sheet(w("health"), [], (now?.health ?? []).map((one) => one.text).join(" ") || w("all_well"));
}

function listen() {
  const stream = new EventSource("/stream");
  stream.addEventListener("message", (event) => { now = JSON.parse(event.data).daemon; heardAt = performance.now(); $("beat").classList.toggle("off"); draw(); });
  stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 1000); });
}

async function start() {
  [words, settings] = await Promise.all(["/words", "/settings"].map(async (path) => (await fetch(path)).json()));
  document.documentElement.lang = words.language;
  document.documentElement.style.setProperty("--mm", `${settings.px_per_mm}px`);
  for (const node of document.querySelectorAll("[data-w]")) node.textContent = w(node.dataset.w);
  $("undo").addEventListener("click", () => act({ do: "undo" }));
  $("more").addEventListener("click", more);
  $("palette").addEventListener("click", () => { byHand = document.documentElement.dataset.palette === "night" ? "day" : "night"; draw(); });
  $("ack-call").addEventListener("click", () => act({ do: "acknowledge_call", incident: now.call.incident }));
  $("ack-message").addEventListener("click", () => act({ do: "acknowledge_message", message: $("ack-message").dataset.message }));
  $("message-text").addEventListener("click", messages);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") $("sheet").close(); });
  $("why").addEventListener("click", () => sheet(w("reason_asked"), reasonEntries(now?.reasons?.[now.status.token], (reason) => act({ do: "reason", reason }))));
  $("show-notes").addEventListener("click", () => sheet(w("notes"), [], now?.call?.notes ?? ""));
  $("choose-destination").addEventListener("click", () => sheet(w("destination"), (now?.hospitals ?? []).map((place) => [place.name, () => act({ do: "destination", place: place.id })]), now?.hospitals?.length ? "" : w("none")));
  guard($("emergency"), () => act({ do: "emergency" }));
  setInterval(draw, 250);
  listen();
}

start();
