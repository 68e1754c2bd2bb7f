// A guard that a sleeve does not pass: hold for 1.5 s, or slide across. Either way works, with a keyboard too.
export const HOLD_MS = 1500;

export function guard(button, onDone) {
  const fill = button.querySelector(".fill");
  let began = null, startX = 0, share = 0, frame = 0;
  const draw = () => {
    if (began === null) return;
    share = Math.max(share, Math.min(1, (performance.now() - began) / HOLD_MS));
    fill.style.width = `${share * 100}%`;
    if (share >= 1) { const done = began !== null; release(); if (done) onDone(); return; }
    frame = requestAnimationFrame(draw);
  };
  const begin = (x) => { if (began === null && !button.disabled) { began = performance.now(); startX = x; share = 0; draw(); } };
  const release = () => { began = null; share = 0; cancelAnimationFrame(frame); fill.style.width = "0"; };
  button.addEventListener("pointerdown", (event) => { button.setPointerCapture(event.pointerId); begin(event.clientX); });
  button.addEventListener("pointermove", (event) => {
    if (began !== null) share = Math.max(share, (event.clientX - startX) / (button.clientWidth * 0.7));
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(name, release);
  button.addEventListener("keydown", (event) => {
    if ((event.key === " " || event.key === "Enter") && !event.repeat) { event.preventDefault(); begin(0); }
  });
  button.addEventListener("keyup", release);
  button.addEventListener("blur", release);
}
