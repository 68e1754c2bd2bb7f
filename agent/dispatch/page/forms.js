// What a dispatcher tells a unit, when no CAD does.

import { ask, unitPath } from "./requests.js";
import { element } from "./words.js";

const CALL = [["incident", "Incident number", { required: true, maxlength: 40 }], ["priority", "Priority", {}], ["nature", "Nature", {}], ["address", "Address", {}],
  ["lat_deg", "Latitude", { type: "number", step: "any", min: -90, max: 90 }], ["lon_deg", "Longitude", { type: "number", step: "any", min: -180, max: 180 }], ["destination", "Destination", {}], ["notes", "Notes", { area: true, maxlength: 1000 }]];
const FORMS = {
  assign: ["Assign a call", CALL], update: ["Change the call", CALL],
  cancel: ["Cancel the call", [["incident", "Incident number", { required: true, maxlength: 40 }], ["reason", "Reason", {}]]],
  message: ["Send a message", [["text", "Text", { area: true, required: true, maxlength: 1000 }]]],
};

export function openForm(dialog, name, unit, { onDone, onError }) {
  const [title, fields] = FORMS[name];
  const inputs = new Map();
  const error = element("p", { role: "alert" });
  const form = element("form", { method: "dialog" }, element("h2", {}, `${title}: ${unit.unit}`));
  for (const [field, label, { area, ...attributes }] of fields) {
    const input = element(area ? "textarea" : "input", { name: field, maxlength: 200, ...attributes });
    const before = name === "assign" ? undefined : field === "incident" ? unit.call?.incident : name === "update" ? unit.call?.fields?.[field] : undefined;
    if (before !== undefined && before !== null) input.value = before;
    inputs.set(field, input);
    form.append(element("label", {}, label, input));
  }
  const send = element("button", { type: "submit" }, "Send");
  form.append(error, element("div", { class: "buttons" }, send, element("button", { type: "button", onclick: () => dialog.close() }, "Back")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = {};
    for (const [field, input] of inputs) if (input.value.trim() !== "") body[field] = input.type === "number" ? Number(input.value) : input.value;
    send.disabled = true;
    try { await ask(unitPath(unit, `/${name}`), { method: "POST", body }); dialog.close(); onDone(`${title}: sent to ${unit.unit}`); }
    catch (problem) { error.textContent = problem.message; onError(problem); }
    finally { send.disabled = false; }
  });
  dialog.replaceChildren(form);
  dialog.show();  // not modal: an alarm above it stays bright and can be acknowledged
}
