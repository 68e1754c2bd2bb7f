// The page: one stream of events makes the picture; if it falls silent the page says so, and nothing counts as now.

import { Alarms } from "./alarms.js";
import { Detail } from "./detail.js";
import { openForm } from "./forms.js";
import { UnitList } from "./list.js";
import { FleetMap } from "./map.js";
import { Replay } from "./replay.js";
import { ask, unitPath } from "./requests.js";
import { openStatistics } from "./statistics.js";
import { FREE, clock, day, key, plain } from "./words.js";

const SILENT_MS = 12000;
const $ = (id) => document.getElementById(id);

const picture = { units: new Map(), alarms: [], calls: [], service: null, lateMs: 75000, staleMs: 150000 };
const state = { who: null, chosen: null, ahead: 0, heardAt: null, stream: null, frame: 0 };

const now = () => Date.now() + state.ahead;
const silent = () => state.heardAt === null || performance.now() - state.heardAt > SILENT_MS;

const map = new FleetMap($("map"), choose);
const list = new UnitList($("units"), choose);
const alarms = new Alarms($("alarms"), { onChoose: choose, onError: toast });
const detail = new Detail($("detail"), { onClose: () => choose(null), onError: toast, onTrack: (track) => map.drawTrack(track),
  openForm: (name, unit) => openForm($("form-dialog"), name, unit, { onDone: toast, onError: () => {} }), onAsk: askUnit });
const replay = new Replay($("replay"), { onError: toast, onEnd: () => { $("map-side").classList.remove("replay"); draw(); },
  onFrame: (units, atMs) => { map.show(units, atMs, state.chosen); } });

function toast(text) {
  $("toast").textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").textContent = ""; }, 6000);
}

// What a vehicle is asked, and what it answers or does not.
async function askUnit(name, word, unit) {
  toast(`${unit.unit}: ${word}: asked`);
  try {
    const done = await ask(unitPath(unit, `/${name}?wait_s=15`), { method: "POST", body: {} });
    const last = done.replies?.at(-1);
    toast(`${unit.unit}: ${word}: ${done.outcome ? plain(done.outcome) : "no answer yet"}${last?.reason ? `, ${plain(last.reason)}` : ""}${last?.text ? `: ${last.text}` : ""}`);
  } catch (error) { toast(`${unit.unit}: ${word}: ${error.message}`); }
}

function choose(name) {
  state.chosen = name === state.chosen ? null : name;
  if (state.chosen === null) map.drawTrack(null);
  draw();
  if (state.chosen !== null && !replay.running) map.follow(picture.units.get(state.chosen));
}

// The service tells how fresh a position is; should it fall silent, the page goes on counting by itself.
function fresh(unit) {
  if (!unit.position || unit.freshness === "offline" || unit.freshness === "none") return unit;
  if (silent()) return { ...unit, freshness: "stale" };
  const passed = unit.position_ms === null ? Infinity : now() - unit.position_ms;
  const freshness = passed > picture.staleMs ? "stale" : unit.freshness === "live" && passed > picture.lateMs ? "late" : unit.freshness;
  return freshness === unit.freshness ? unit : { ...unit, freshness };
}

function draw() {
  state.frame = 0;
  const nowMs = now();
  const units = [...picture.units.values()].map(fresh)
    .sort((a, b) => Number(b.emergency) - Number(a.emergency) || key(a).localeCompare(key(b), undefined, { numeric: true }));
  list.show(units, nowMs, state.chosen);
  if (!replay.running) map.show(units, nowMs, state.chosen);
  alarms.show(picture.alarms, nowMs, state.who?.role === "dispatch");
  detail.show(units.find((one) => key(one) === state.chosen) ?? null, nowMs, state.who);
  $("no-units").hidden = units.length > 0;
  const free = units.filter((one) => FREE.has(one.status)).length;
  const old = units.filter((one) => one.freshness !== "live").length;
  $("counts").textContent = `${units.length} units, ${free} free${old ? `, ${old} not live` : ""}`;
  showConnection();
  $("clock").textContent = `${day(nowMs)}  ${clock(nowMs)}`;
  $("not-live").hidden = !replay.running;
  $("not-live").textContent = "REPLAY: this is the past, not now";
}

function showConnection() {
  const service = picture.service;
  let text = "connected", good = true;
  if (silent()) { text = "NO CONNECTION TO THE SERVICE: nothing here is live"; good = false; }
  else if (service && service.store) { text = "THE STORE IS AWAY: nothing new is kept or shown"; good = false; }
  else if (service && service.broker) { text = "NO BROKER: nothing new comes in"; good = false; }
  else if (service && service.simulated) text = "connected to a SIMULATED or recorded drive";
  else if (service && service.missing) text = `connected, ${service.missing} records asked for again`;
  const place = $("connection");
  if (place.textContent !== text) place.textContent = text;
  place.title = service ? [service.store, service.broker].filter(Boolean).join("; ") : "";
  place.className = good ? "good" : "bad";
  const sound = alarms.sound;
  $("sound").textContent = !sound.on ? "Sound off" : sound.blocked ? "Sound blocked: click" : "Sound on";
  $("sound").setAttribute("aria-pressed", String(sound.on && !sound.blocked));
}

// A page that nobody sees gets no frames, but its alarm must sound all the same: a timer stands behind each.
function soon() {
  if (state.frame) return;
  const once = () => { cancelAnimationFrame(frame); clearTimeout(timer); draw(); };
  const frame = requestAnimationFrame(once), timer = setTimeout(once, 400);
  state.frame = 1;
}

function listen() {
  state.stream?.close();
  const stream = state.stream = new EventSource("/api/v1/live");
  const on = (name, take) => stream.addEventListener(name, (event) => { state.heardAt = performance.now(); take(JSON.parse(event.data)); soon(); });
  on("snapshot", (given) => {
    state.ahead = given.now_ms - Date.now();
    picture.lateMs = given.late_after_s * 1000; picture.staleMs = given.stale_after_s * 1000;
    picture.units = new Map(given.units.map((one) => [key(one), one]));
    Object.assign(picture, { alarms: given.alarms, calls: given.calls, service: given.service });
  });
  on("units", (given) => { for (const one of given) picture.units.set(key(one), one); });
  on("records", (given) => detail.add(given));
  on("alarms", (given) => { picture.alarms = given; });
  on("calls", (given) => { picture.calls = given; });
  on("service", (given) => { picture.service = given; state.ahead = given.now_ms - Date.now(); });
  on("heartbeat", () => {});
  stream.onerror = () => { if (stream.readyState === EventSource.CLOSED) setTimeout(enter, 2000); soon(); };
}

async function enter() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname);
    await ask("/api/session", { method: "POST", body: { token: given } }).catch(() => {});
  }
  try {
    state.who = await ask("/api/session");
    $("who").textContent = `${state.who.name} (${state.who.role})`;
    listen();
  } catch (error) {
    if (error.status === 401) { if (!$("login").open) $("login").showModal(); }
    else setTimeout(enter, 2000);
  }
}

$("login").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("/api/session", { method: "POST", body: { token: $("token").value } });
    $("token").value = ""; $("login").close(); enter();
  } catch (error) { $("login-error").textContent = error.message; }
});
$("login").addEventListener("cancel", (event) => event.preventDefault());

function setPalette(name) {
  document.documentElement.dataset.palette = name;
  localStorage.setItem("palette", name);
  $("palette").textContent = name === "dark" ? "Light" : "Dark";
  map.paint();
}
$("palette").addEventListener("click", () => setPalette(document.documentElement.dataset.palette === "dark" ? "light" : "dark"));
$("sound").addEventListener("click", () => { const sound = alarms.sound; if (sound.blocked) sound.wake(); else { sound.on = !sound.on; if (sound.on) sound.wake(); } draw(); });
document.addEventListener("pointerdown", () => alarms.sound.wake(), { once: true });
$("search").addEventListener("input", () => { list.search = $("search").value; draw(); });
$("only-free").addEventListener("click", () => { list.onlyFree = !list.onlyFree; $("only-free").setAttribute("aria-pressed", String(list.onlyFree)); draw(); });
$("statistics").addEventListener("click", () => openStatistics($("form-dialog"), now()));
$("replay-open").addEventListener("click", () => { if (!replay.running) { $("map-side").classList.add("replay"); choose(null); replay.open(now()); draw(); } });
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key === "/" && !typing) { event.preventDefault(); $("search").focus(); }
  if (event.key === "Escape" && $("form-dialog").open) { $("form-dialog").close(); return; }
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) { if (typing) event.target.blur(); else if (state.chosen) choose(null); }
  if (event.key === "f" && !typing) map.frame([...picture.units.values()]);
});

setPalette(localStorage.getItem("palette") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
setInterval(soon, 1000);
setInterval(() => { if (replay.running) replay.tick(); }, 100);
soon();
enter();
