// What map and time lines have in common: SVG elements, words for times, a window of time.

const SVG = "http://www.w3.org/2000/svg";
const FAULT_COLOURS = 8;

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const ruler = document.createElement("canvas").getContext("2d");

function textWidth(text, bold = false) {
  ruler.font = `${bold ? "600 " : ""}13px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

function clock(t, fine = false) {
  const tenths = Math.round(Math.abs(t) * (fine ? 10 : 1)) / (fine ? 10 : 1);
  const hours = Math.floor(tenths / 3600), minutes = Math.floor(tenths / 60) % 60, seconds = tenths % 60;
  const tail = (fine ? seconds.toFixed(1) : String(seconds)).padStart(fine ? 4 : 2, "0");
  const head = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : String(minutes);
  return `${t < 0 && tenths ? "−" : ""}${head}:${tail}`;
}

function duration(s) {
  if (s >= 0 && s < 0.0005) return "< 1 ms";
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s), minutes = Math.round(s / 60);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

function metres(m) {
  if (m < 9.95) return `${m.toFixed(1)} m`;
  return m < 999.5 ? `${Math.round(m)} m` : `${(m / 1000).toFixed(m < 9950 ? 1 : 0)} km`;
}

// Index of the last row whose first column is at most t, -1 when there is none.
function lastAt(rows, t, column = 0) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][column] <= t) low = middle + 1; else high = middle;
  }
  return low - 1;
}

function faultColour(kind, kinds) {
  return `var(--fault-${kinds.indexOf(kind) % FAULT_COLOURS})`;
}

const TIME_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600];

function timeTicks(from, to, most) {
  const step = TIME_STEPS.find(one => (to - from) / one <= most) ?? 43200;
  const ticks = [];
  for (let at = Math.ceil(from / step); at * step <= to + 1e-9; at++) ticks.push(at * step);
  return { ticks, fine: step < 1 };
}
