// The interface of the service, as this page uses it.

export class Refused extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

export async function ask(path, { method = "GET", body } = {}) {
  const answer = await fetch(path, {
    method, credentials: "same-origin",
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const given = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const detail = Array.isArray(given.detail) ? given.detail.map((one) => `${one.loc?.at(-1)}: ${one.msg}`).join("; ") : given.detail;
    throw new Refused(answer.status, String(detail ?? answer.statusText));
  }
  return given;
}

export const unitPath = (unit, rest = "") => `/api/v1/units/${encodeURIComponent(unit.agency)}/${encodeURIComponent(unit.unit)}${rest}`;
