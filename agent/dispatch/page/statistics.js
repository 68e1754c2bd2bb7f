// Vital statistics of some days, each figure with what it means and of how many cases it is.

import { ask } from "./requests.js";
import { day, element } from "./words.js";

const shown = (one) => {
  if (one.value === null) return "–";
  if (one.unit === "s") return one.value < 100 ? `${Number(one.value.toPrecision(3))} s` : `${Math.floor(one.value / 60)} min ${String(Math.round(one.value % 60)).padStart(2, "0")} s`;
  if (one.unit === "share") return `${(100 * one.value).toFixed(1)} %`;
  return `${Number(one.value.toPrecision(4))} ${one.unit}`;
};

export function openStatistics(dialog, nowMs) {
  const from = element("input", { type: "date", value: day(nowMs), "aria-label": "first day", required: true });
  const days = element("input", { type: "number", min: "1", max: "366", value: "1", "aria-label": "days" });
  const error = element("p", { role: "alert" });
  const body = element("tbody");
  const csv = element("a", { href: "#", download: "statistics.csv" }, "CSV");
  const form = element("form", { method: "dialog", class: "wide" }, element("h2", {}, "Vital statistics"),
    element("div", { class: "buttons" }, from, days, element("span", {}, "days"), element("button", { type: "submit" }, "Show"), csv,
      element("button", { type: "button", onclick: () => dialog.close() }, "Back")), error,
    element("table", { class: "figures" }, element("thead", {}, element("tr", {}, ...["Figure", "Value", "Cases", "What it means"].map((word) => element("th", {}, word)))), body));
  const show = async () => {
    const since = new Date(`${from.value}T00:00`).getTime(), until = since + Number(days.value) * 86400000;
    csv.href = `/api/v1/statistics.csv?since=${since}&until=${until}`;
    error.textContent = "";
    try {
      const figures = await ask(`/api/v1/statistics?since=${since}&until=${until}`);
      body.replaceChildren(...figures.map((one) => element("tr", {}, element("td", {}, one.name), element("td", {}, shown(one)), element("td", {}, String(one.cases)), element("td", { class: "small" }, one.definition))));
    } catch (problem) { error.textContent = problem.message; }
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
  dialog.replaceChildren(form);
  dialog.show();  // not modal: an alarm above it stays bright and can be acknowledged
  show();
}
