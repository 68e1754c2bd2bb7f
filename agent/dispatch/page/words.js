// Texts and elements. Whatever a unit says becomes text here, never markup.

export const FREE = new Set(["available", "in_quarters"]);
const FRESH = {
  live: ["●", "now"], late: ["◐", "late"], stale: ["○", "old"], no_fix: ["◌", "no fix"], doubtful: ["≈", "doubtful"],
  offline: ["✕", "no link"], none: ["–", "unknown"],
};
const REASONS = {
  gnss_lost: "position receiver lost", gnss_silent: "position receiver silent", gnss_no_fix: "no position fix",
  gnss_implausible: "position implausible", can_lost: "vehicle bus lost", can_silent: "vehicle bus silent",
  buttons_lost: "crew buttons lost", button_stuck: "a crew button is stuck", button_chatter: "a crew button chatters", ignition_doubted: "its ignition sense is doubted", power_down_failed: "its computer could not be turned off", store_full: "its disk is full",
  store_read_only: "its disk is read-only", store_io_error: "its disk fails", time_unsynchronised: "its clock is not set",
  certificate_expiring: "its certificate ends soon", broker_not_preferred: "connected by the second way",
  unit_restarted: "a part was started again", no_descriptors: "its computer opens no more files", recorder_stopped: "its black box stopped",
};

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}

export const plain = (token) => (token === null || token === undefined ? "–" : String(token).replaceAll("_", " "));
export const reason = (token) => REASONS[token] ?? plain(token);
export const freshSign = (freshness) => (FRESH[freshness] ?? FRESH.none)[0];

export function freshText(unit, nowMs) {
  const [sign, word] = FRESH[unit.freshness] ?? FRESH.none;
  if (unit.freshness === "live" || unit.freshness === "none") return `${sign} ${word}`;
  return `${sign} ${word}, ${age(unit.position_ms, nowMs)}`;
}

export function age(thenMs, nowMs) {
  if (thenMs === null || thenMs === undefined) return "age unknown";
  const seconds = Math.max(0, Math.round((nowMs - thenMs) / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

const two = (number) => String(number).padStart(2, "0");

export function clock(ms, { seconds = true } = {}) {
  if (ms === null || ms === undefined) return "–";
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? ":" + two(at.getSeconds()) : ""}`;
}

export function day(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export const key = (unit) => `${unit.agency}/${unit.unit}`;
export const speed = (mps) => (mps === null || mps === undefined ? "–" : `${Math.round(mps * 3.6)} km/h`);

// What the vehicle itself knew at the press; a contradiction is said in words.
function evidence(data) {
  const known = data.evidence;
  const parts = [];
  if (data.reason) parts.push(plain(data.reason));
  if (known?.contradictions?.length) parts.push(`vehicle says: ${known.contradictions.map(plain).join(", ")}`);
  else if (known?.motion) parts.push(plain(known.motion));
  if (known?.place) parts.push(`near ${known.place}`);
  return parts.length ? ` (${parts.join(", ")})` : "";
}

export function says(record) {
  const data = record.data ?? {};
  switch (record.kind) {
    case "status": return plain(data.status) + evidence(data) + (record.withdrawn ? " (taken back)" : "");
    case "emergency": return data.active ? "EMERGENCY" : "emergency ended";
    case "alert": return data.text || plain(data.code);
    case "withdrawal": return `taken back: ${plain(data.of_kind)} ${data.of_seq}`;
    case "amendment": return `amended: ${plain(data.field)} ${data.original ?? "–"} → ${data.value ?? "–"}${data.by ? ` by ${data.by}` : ""}${data.why ? ` (${data.why})` : ""}`;
    case "call": return `call ${data.incident}: ${plain(data.step)}`;
    case "message": return `message ${plain(data.step)}${data.text ? `: ${data.text}` : ""}`;
    case "answer": return `${data.accepted ? "accepted" : "refused"} by dispatch${data.text ? `: ${data.text}` : ""}`;
    case "hint": return `looks like ${plain(data.status)} (${plain(data.rule)})`;
    case "gap": return `not kept by the vehicle: ${Object.entries(data.counts ?? {}).map(([kind, n]) => `${n} ${plain(kind)}`).join(", ") || "records"} (${plain(data.reason)})`;
    default: return plain(record.kind) + (Object.keys(data).length ? ": " + JSON.stringify(data).slice(0, 160) : "");
  }
}
