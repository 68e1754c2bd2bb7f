// The crew's panel. It keeps nothing: what stands on it is what the daemon last said, and a press that the
// daemon did not take is refused in plain sight. Whatever comes from outside is put in as text, never as markup.
import { ageText, lampText } from "./lamps.js";
import { guard } from "./guard.js";

const $ = (id) => document.getElementById(id);
const SILENT_AFTER_MS = 2000;
let words = {}, settings = {}, now = null, heardAt = 0, byHand = null, said = new Set(), pressedAt = new Map();

const w = (key) => words[key] ?? key;
const text = (id, value) => { const node = $(id); if (node.textContent !== value) node.textContent = value; };
const show = (id, visible) => { $(id).hidden = !visible; };

async function act(action) {
  try {
    const response = await fetch("/act", { method: "POST", body: JSON.stringify(action), headers: { "Content-Type": "application/json" } });
    const answer = await response.json();
    if (!response.ok) refuse(answer.error, answer.text);
    return answer;
  } catch (error) {
    refuse("panel_away", "");
    return { error: "panel_away" };
  }
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
    sheet(words[`status_${key.token}`] ?? key.token, reasons.map((reason) => [words[`reason_${reason}`] ?? reason, () => act({ do: "press", key: key.key, reason })]));
  } else {
    act({ do: "press", key: key.key });
  }
}

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
  if (!dialog.open) dialog.showModal();
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
  if (!dialog.open) dialog.showModal();
  input.focus();
}

const driving = () => Boolean(now?.motion?.driving) && !settings.passenger;

function draw() {
  const fresh = now !== null && performance.now() - heardAt < SILENT_AFTER_MS;
  show("away", !fresh);
  if (!fresh) text("away", performance.now() - heardAt < SILENT_AFTER_MS ? w("agent_away") : w("panel_away"));
  for (const button of document.querySelectorAll("#tiles button, #emergency, #ack-call")) button.disabled = !fresh;
  document.body.classList.toggle("driving", driving());
  if ((driving() || !fresh) && $("sheet").open) $("sheet").close();
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
  drawHint();
  if (status.refused) refuse(status.refused.reason, status.refused.text);
  $("undo").disabled = !fresh || !(status.undo_s > 0);
  const emergency = now.emergency;
  $("emergency").querySelector(".text").textContent = emergency.active
    ? `${w("emergency")} ${emergency.received ? "··" : emergency.sent ? "·" : "…"}` : emergency.test ? w("emergency_test") : w("emergency");
}

function drawSigns() {
  const signs = [];
  signs.push(now.link.connected ? [false, w("link_up")] : [true, w("link_down")]);
  signs.push(now.gnss.fix ? [false, w("gnss_up")] : [true, w("gnss_down")]);
  if (now.backlog.presses > 0) signs.push([true, `${now.backlog.presses} ${w("waiting")}`]);
  if (now.health.length) signs.push([true, w("system_ill")]);
  if (!now.receipts && now.link.connected) signs.push([false, w("no_receipts")]);
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
  text("nature", [call.nature, call.response_mode, ...(call.alternates ?? [])].filter(Boolean).join(" · "));
  text("destination", call.destination ? `→ ${call.destination}${call.eta_min === null || call.eta_min === undefined ? "" : ` ${call.eta_min} ${w("minutes")} (${w("estimated")})`}` : "");
  show("ack-call", !call.acknowledged);
  show("show-notes", call.acknowledged && Boolean(call.notes));
  show("choose-destination", call.acknowledged);
  if (!said.has(call.incident)) { said.add(call.incident); act({ do: "shown", incident: call.incident }); }
  if (!call.acknowledged) sound();
}

function drawHint() {
  const hint = now.hint;
  show("hint", Boolean(hint));
  if (hint) text("hint", `${w("hint_asks")} ${words[`status_${hint.suggests}`] ?? hint.suggests}`);
}

let audio = null, soundedAt = 0;
function sound() {
  if (!settings.sound || performance.now() - soundedAt < (settings.sound_every_s ?? 5) * 1000) return;
  soundedAt = performance.now();
  audio ??= new AudioContext();
  for (let pulse = 0; pulse < 3; pulse += 1) {
    for (const hertz of [330, 660, 990, 1320, 1650]) {
      const tone = audio.createOscillator(), level = audio.createGain(), at = audio.currentTime + pulse * 0.3;
      tone.frequency.value = hertz;
      level.gain.setValueAtTime(0.08, at);
      level.gain.setTargetAtTime(0, at + 0.15, 0.02);
      tone.connect(level).connect(audio.destination);
      tone.start(at);
      tone.stop(at + 0.25);
    }
  }
}

function more() {
  const entries = [[w("message_list"), messages], [w("sign_on"), () => ask(w("sign_on"), w("crew_ids"), (ids) => act({ do: "sign_on", crew: ids.split(/[ ,]+/).filter(Boolean) }))],
    [w("sign_off"), () => act({ do: "sign_off" })],
    [now?.available_for_calls ? w("not_for_calls") : w("for_calls"), () => act({ do: "available_for_calls", value: !now.available_for_calls })],
    [w("amend"), amend], [w("health"), health]];
  for (const key of now?.more_keys ?? []) entries.push([words[`status_${key.token}`] ?? key.token, () => press(key)]);
  if (now?.emergency.active) entries.push([w("cancel_emergency"), () => ask(w("cancel_emergency"), w("code"), (code) => act({ do: "cancel_emergency", code }), true)]);
  else if (now && !now.emergency.test) entries.push([w("test_emergency"), () => act({ do: "emergency_test" })]);
  sheet(w("more"), entries);
}

function messages() {
  sheet(w("message_list"), (now?.messages ?? []).map((message) => [`${message.acknowledged ? "✔ " : ""}${message.text}`, () => act({ do: "acknowledge_message", message: message.id })]), now?.messages?.length ? "" : w("none"));
}

function amend() {
  sheet(w("amend"), (now?.recent ?? []).map((press) => [`${words[`status_${press.token}`] ?? press.token} ${press.time}`, () =>
    ask(w("amend"), w("minutes_earlier"), (minutes) => act({ do: "amend", seq: press.seq, earlier_s: Number(minutes) * 60, why: "crew" }), true)]), now?.recent?.length ? "" : w("none"));
}

function health() {
  sheet(w("health"), [], (now?.health ?? []).map((one) => one.text).join(" ") || w("all_well"));
}

function listen() {
  const stream = new EventSource("/stream");
  stream.addEventListener("message", (event) => { now = JSON.parse(event.data).daemon; heardAt = performance.now(); draw(); });
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
  $("show-notes").addEventListener("click", () => sheet(w("notes"), [], now?.call?.notes ?? ""));
  $("choose-destination").addEventListener("click", () => sheet(w("destination"), (now?.hospitals ?? []).map((place) => [place.name, () => act({ do: "destination", place: place.id })]), now?.hospitals?.length ? "" : w("none")));
  guard($("emergency"), () => act({ do: "emergency" }));
  setInterval(draw, 250);
  listen();
}

start();
