// The map: streets on one canvas, units as elements above it. The view never moves by itself.

import { FREE, age, element, key, speed } from "./words.js";

const BOSTON = [42.36, -71.06];
const EARTH_M = 6371008.8, CARRY_S = 15, STANDS_BELOW_MPS = 0.7;

// A unit reports when this picture would be too far off: so both ends must reckon alike (agent.domain.picture).
export function carriedOn(position, seconds) {
  const { lat_deg: lat, lon_deg: lon, speed_mps: mps, course_deg: course } = position;
  if (mps === null || course === null || mps === undefined || course === undefined || mps < STANDS_BELOW_MPS) return [lat, lon];
  const away = mps * Math.min(Math.max(0, seconds), CARRY_S), angle = course * Math.PI / 180, degree = 180 / Math.PI;
  return [lat + away * Math.cos(angle) / EARTH_M * degree, lon + away * Math.sin(angle) / (EARTH_M * Math.cos(lat / degree)) * degree];
}

export class FleetMap {
  constructor(place, onChoose) {
    this.map = L.map(place, { preferCanvas: true, zoomControl: true, attributionControl: false, keyboard: true,
      center: BOSTON, zoom: 12, minZoom: 3, maxZoom: 19, zoomSnap: 0.25, zoomDelta: 0.5, zoomAnimation: false, fadeAnimation: false });
    L.control.scale({ imperial: false, position: "bottomright" }).addTo(this.map);
    this.map.getPane("markerPane").style.zIndex = 650;
    this.onChoose = onChoose;
    this.marks = new Map();
    this.framed = false;
    this.streets = null;
    this.track = null;
    this.grid = null;
    new ResizeObserver(() => this.map.invalidateSize({ pan: false })).observe(place);
    this.drawGround();
  }

  colours() {
    const style = getComputedStyle(document.documentElement);
    return { street: style.getPropertyValue("--street").trim(), big: style.getPropertyValue("--street-big").trim(), focus: style.getPropertyValue("--focus").trim() };
  }

  async drawGround() {
    try {
      const answer = await fetch("/streets.geojson", { credentials: "same-origin" });
      if (!answer.ok) throw new Error("none");
      this.ground = await answer.json();
    } catch { this.ground = null; }
    this.paint();
  }

  paint() {
    const colours = this.colours();
    this.streets?.remove(); this.grid?.remove();
    if (this.ground) {
      const big = new Set(["motorway", "trunk", "primary", "secondary"]);
      this.streets = L.geoJSON(this.ground, { interactive: false, renderer: L.canvas({ padding: 0.3 }),
        style: (feature) => {
          const kind = feature.properties?.highway ?? feature.properties?.kind;
          return { color: big.has(kind) ? colours.big : colours.street, weight: big.has(kind) ? 2.5 : 1, fill: false };
        } }).addTo(this.map);
    } else {
      const Grid = L.GridLayer.extend({ createTile() {
        const tile = document.createElement("canvas"); tile.width = tile.height = 256;
        const pen = tile.getContext("2d"); pen.strokeStyle = colours.street; pen.strokeRect(0.5, 0.5, 256, 256);
        return tile;
      } });
      this.grid = new Grid().addTo(this.map);
    }
  }

  frame(units) {
    const points = units.filter((one) => one.position).map((one) => [one.position.lat_deg, one.position.lon_deg]);
    if (!points.length) return;
    this.framed = true;
    this.map.fitBounds(L.latLngBounds(points).pad(0.15), { maxZoom: 15, animate: false });
  }

  show(units, nowMs, chosen) {
    const seen = new Set();
    for (const unit of units) {
      if (!unit.position) continue;
      const name = key(unit);
      seen.add(name);
      let mark = this.marks.get(name);
      if (!mark) {
        const face = element("div", { class: "mark" });
        face.append(element("span", { class: "shape" }, element("span", { class: "arrow" })), element("span", { class: "name" }));
        const icon = L.divIcon({ html: face, className: "", iconSize: [0, 0] });
        mark = { face, marker: L.marker([unit.position.lat_deg, unit.position.lon_deg], { icon, keyboard: false, riseOnHover: true }), shown: "" };
        mark.marker.on("click", () => this.onChoose(name));
        mark.marker.addTo(this.map);
        this.marks.set(name, mark);
      }
      this.dress(mark, unit, nowMs, name === chosen);
    }
    for (const [name, mark] of this.marks) if (!seen.has(name)) { mark.marker.remove(); this.marks.delete(name); }
    if (!this.framed && seen.size) this.frame(units);
  }

  dress(mark, unit, nowMs, chosen) {
    const { course_deg: course, speed_mps: mps } = unit.position;
    const [lat, lon] = unit.freshness === "live" ? carriedOn(unit.position, (nowMs - unit.position_ms) / 1000) : [unit.position.lat_deg, unit.position.lon_deg];
    const old = unit.freshness !== "live" && unit.freshness !== "late";
    const moving = !old && course !== null && course !== undefined && mps > 1;
    const text = unit.emergency ? `${unit.unit} EMERGENCY` : old ? `${unit.unit} ${age(unit.position_ms, nowMs)} ago` : unit.unit;
    const classes = ["mark", old ? "old" : unit.freshness, FREE.has(unit.status) ? "free" : "busy", unit.emergency ? "emergency" : "", chosen ? "chosen" : ""].join(" ");
    const shown = `${lat} ${lon} ${moving ? course : ""} ${text} ${classes}`;
    if (shown === mark.shown) return;
    mark.shown = shown;
    mark.marker.setLatLng([lat, lon]);
    mark.marker.setZIndexOffset(unit.emergency ? 10000 : chosen ? 5000 : 0);
    mark.face.className = classes;
    mark.face.title = `${unit.unit}, ${speed(mps)}`;
    mark.face.lastChild.textContent = text;
    const arrow = mark.face.firstChild.firstChild;
    arrow.style.display = moving ? "" : "none";
    if (moving) arrow.style.transform = `rotate(${course}deg) translateY(-.85rem)`;
  }

  follow(unit) {
    this.map.invalidateSize({ pan: false });
    if (unit?.position) this.map.panTo([unit.position.lat_deg, unit.position.lon_deg], { animate: false });
  }

  // A gap of more than two minutes or two kilometres is drawn as a gap, not as a street that nobody drove.
  drawTrack(feature) {
    this.track?.remove(); this.track = null;
    const points = feature?.geometry?.coordinates ?? [];
    const times = feature?.properties?.at_ms ?? [];
    const pieces = []; let piece = [];
    points.forEach(([lon, lat], at) => {
      const here = L.latLng(lat, lon);
      if (piece.length && (times[at] - times[at - 1] > 120000 || here.distanceTo(piece.at(-1)) > 2000)) { pieces.push(piece); piece = []; }
      piece.push(here);
    });
    if (piece.length) pieces.push(piece);
    if (pieces.length) this.track = L.polyline(pieces, { color: this.colours().focus, weight: 4, opacity: 0.75, interactive: false }).addTo(this.map);
  }
}
