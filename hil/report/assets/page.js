// Binds map and time lines to one moment and one window of time.

const run = JSON.parse(document.getElementById("run").textContent);
const lanesPlace = document.getElementById("lanes");
const readout = document.getElementById("readout");
const LEAST_WINDOW_S = 2;

const view = { from: 0, to: run.end };
let moment = run.faults.length ? (run.faults[0][1] + run.faults[0][2]) / 2 : run.end / 2;

const driveMap = new DriveMap(run, document.getElementById("map"), t => { if (t !== null) choose(t); });
const lanes = new TimeLanes(run, lanesPlace);
const events = [...new Set([...run.faults.flatMap(fault => [fault[1], fault[2]]), ...run.presses.map(press => press[0])])]
  .sort((a, b) => a - b);

function draw() {
  driveMap.draw(view);
  lanes.draw(view);
  document.getElementById("zoom-in").disabled = view.to - view.from <= LEAST_WINDOW_S;
  const whole = view.from <= 0 && view.to >= run.end;
  for (const id of ["zoom-out", "whole", "earlier", "later"]) document.getElementById(id).disabled = whole;
  show();
}

function choose(t) {
  moment = Math.min(run.end, Math.max(0, t));
  show();
}

// Like choose, for what may lie outside of the window.
function goTo(t) {
  moment = Math.min(run.end, Math.max(0, t));
  if (moment < view.from || moment > view.to) {
    const half = (view.to - view.from) / 2;
    look(moment - half, moment + half);
  } else show();
}

function look(from, to) {
  const width = Math.min(run.end, Math.max(LEAST_WINDOW_S, to - from));
  view.from = Math.min(Math.max(0, from), run.end - width);
  view.to = view.from + width;
  moment = Math.min(view.to, Math.max(view.from, moment));
  draw();
}

function zoom(factor, about = moment) {
  look(about - (about - view.from) * factor, about + (view.to - about) * factor);
}

function pan(part) {
  const by = (view.to - view.from) * part;
  look(view.from + by, view.to + by);
}

function within(rows, column = 0) {
  return rows.filter(row => row[column] <= moment && moment < Math.max(row[column + 1], row[column] + 0.01));
}

// What dispatch's map showed: the newest live position it had by then.
function believed() {
  const at = lastAt(run.live, moment);
  return at < 0 ? null : run.live[at];
}

function distance(a, b) {
  const [ax, ay] = driveMap.plane(a[0], a[1]), [bx, by] = driveMap.plane(b[0], b[1]);
  return Math.hypot(ax - bx, ay - by);
}

function dispatchWords(shown, place) {
  if (!shown) return "nothing yet";
  if (shown.length < 4) return "no fix: the vehicle said that it does not know";
  const age = shown[1] === null ? null : (moment - shown[1]) / run.speed;
  const words = [age === null ? "position of unknown age" : `position ${duration(Math.max(0, age))} old`];
  if (place) words.push(`${metres(distance(place, shown.slice(2)))} from the vehicle`);
  return words.join(", ");
}

function facts() {
  const shown = believed(), place = driveMap.at(moment);
  const status = run.presses.filter(press => press[0] <= moment && !press[5] && press[1] !== "emergency").pop();
  const waiting = lastAt(run.backlog, moment), vehicle = within(run.links.vehicle)[0], dispatch = within(run.links.dispatch)[0];
  const utc = new Date(run.startMs + moment * 1000).toISOString();
  const list = words => words.length ? [...new Set(words)].join(", ") : "none";
  return [
    ["Moment", `${clock(moment, true)} (${utc.slice(11, 19)} UTC)`],
    ["Status last pressed", status ? status[1] : "none yet"],
    ["GNSS reception", place ? (place[2] ? "fix" : "no fix") : "not driving"],
    ["Connection", `vehicle: ${vehicle ? (vehicle[2] ? "connected" : "none") : "unknown"}; dispatch: ${dispatch ? (dispatch[2] ? "online" : "offline") : "not told"}`],
    ["Records waiting", waiting < 0 ? "unknown" : String(run.backlog[waiting][1])],
    ["Dispatch’s map", dispatchWords(shown, place)],
    ["Faults now", list(within(run.faults, 1).map(fault => fault[0]))],
    ["The vehicle says", list(within(run.reasons, 1).map(row => row[0]))],
  ];
}

function show() {
  const told = facts(), shown = believed();
  readout.replaceChildren(...told.map(([name, words]) => {
    const entry = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = words;
    entry.append(term, value);
    return entry;
  }));
  driveMap.mark(moment, shown && shown.length >= 4 ? shown.slice(2) : null);
  lanes.mark(moment);
  for (const [name, value] of [["valuemin", 0], ["valuemax", run.end], ["valuenow", moment.toFixed(1)],
    ["valuetext", told.map(fact => fact.join(" ")).join("; ")]]) lanesPlace.setAttribute(`aria-${name}`, value);
}

function toEvent(direction) {
  const found = direction > 0 ? events.find(t => t > moment + 0.005) : events.filter(t => t < moment - 0.005).pop();
  if (found !== undefined) goTo(found);
}

const KEYS = {
  ArrowLeft: event => goTo(moment - (view.to - view.from) * (event.shiftKey ? 0.1 : 0.01)),
  ArrowRight: event => goTo(moment + (view.to - view.from) * (event.shiftKey ? 0.1 : 0.01)),
  Home: () => goTo(0),
  End: () => goTo(run.end),
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  0: () => look(0, run.end),
  n: () => toEvent(1),
  p: () => toEvent(-1),
};

lanesPlace.addEventListener("keydown", event => {
  const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act(event);
});

let dragged = null;
lanesPlace.addEventListener("pointerdown", event => {
  if (event.button) return;
  dragged = event.pointerType === "mouse" ? event.clientX : null;
  if (dragged !== null) lanesPlace.setPointerCapture(event.pointerId);
  choose(lanes.time(event.clientX));
});
lanesPlace.addEventListener("pointermove", event => {
  if (event.pointerType !== "mouse" && !event.buttons) return;
  choose(lanes.time(event.clientX));
  if (dragged !== null) lanes.select(lanes.time(dragged), moment);
});
lanesPlace.addEventListener("pointerup", event => {
  if (dragged === null) return;
  const from = lanes.time(dragged), to = lanes.time(event.clientX), far = Math.abs(event.clientX - dragged) > 8;
  dragged = null;
  lanes.select(0, 0);
  if (far) look(Math.min(from, to), Math.max(from, to));
});

const BUTTONS = {
  "zoom-in": () => zoom(0.5), "zoom-out": () => zoom(2), whole: () => look(0, run.end),
  earlier: () => pan(-0.5), later: () => pan(0.5), "previous-event": () => toEvent(-1), "next-event": () => toEvent(1),
};
for (const [id, act] of Object.entries(BUTTONS)) document.getElementById(id).addEventListener("click", act);
for (const button of document.querySelectorAll("button.jump")) button.addEventListener("click", () => {
  goTo(Number(button.dataset.t));
  document.querySelector(".charts").scrollIntoView();
  lanesPlace.focus({ preventScroll: true });
});

driveMap.legend(document.getElementById("legend"));
let drawnWidth = 0;
new ResizeObserver(() => {
  if (lanesPlace.clientWidth === drawnWidth) return;
  drawnWidth = lanesPlace.clientWidth;
  requestAnimationFrame(draw);
}).observe(lanesPlace);
