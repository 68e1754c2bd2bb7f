// What each lamp says, by shape as well as by word: colour alone tells nothing to one man in twelve.
export const SHAPES = {
  off: "", not_stored: "◌", stored: "◐", delivered: "●", received: "✔", refused: "✖",
};

export function lampText(lamp, words) {
  return lamp && lamp !== "off" ? [SHAPES[lamp] ?? "?", words[`lamp_${lamp}`] ?? lamp] : ["", ""];
}

export function ageText(seconds, words) {
  if (seconds === null || seconds === undefined || seconds < 0) return "";
  if (seconds < 60) return `${Math.floor(seconds)} ${words.seconds}`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} ${words.minutes}`;
  return `${Math.floor(seconds / 3600)}:${String(Math.floor(seconds / 60) % 60).padStart(2, "0")} ${words.hours}`;
}
