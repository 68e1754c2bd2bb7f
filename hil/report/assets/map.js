// The map: where the vehicle was, and where dispatch's journal says it was.

const METRES_A_DEGREE = 111320;
const MAP_MARGIN = 34;
const LEAST_MAP_M = 60;
const JUMPS = 2;
const STRAY_M = 50;
const MOST_NAMED_PRESSES = 24;

class DriveMap {
  constructor(run, place, onTime) {
    this.run = run;
    this.place = place;
    this.kinds = [...new Set(run.faults.map(fault => fault[0]))];
    this.middle = run.track.length ? run.track[run.track.length >> 1] : [0, 0, 0, 1];
    this.eastM = METRES_A_DEGREE * Math.cos(this.middle[1] * Math.PI / 180);
    const point = event => onTime(this.nearestTime(event));
    place.addEventListener("pointermove", event => { if (event.pointerType === "mouse") point(event); });
    place.addEventListener("pointerdown", point);
  }

  // Metres east and south of the middle of the drive.
  plane(lat, lon) {
    return [(lon - this.middle[2]) * this.eastM, (this.middle[1] - lat) * METRES_A_DEGREE];
  }

  pixel(lat, lon) {
    const [x, y] = this.plane(lat, lon);
    return [(x - this.centre[0]) * this.scale + this.width / 2, (y - this.centre[1]) * this.scale + this.height / 2];
  }

  // [lat, lon, has fix] at a time, between the points of the track.
  at(t) {
    const track = this.run.track, index = lastAt(track, t);
    if (index < 0 || !track.length) return null;
    const a = track[index], b = track[Math.min(index + 1, track.length - 1)];
    if (a[3] === JUMPS && t < b[0]) return [a[1], a[2], 1];
    if (a === b) return t - a[0] > 2 ? null : [a[1], a[2], a[3]];
    const part = (t - a[0]) / (b[0] - a[0]);
    return [a[1] + (b[1] - a[1]) * part, a[2] + (b[2] - a[2]) * part, a[3]];
  }

  // Points of the track from one time to another, ends included.
  stretch(from, to) {
    const track = this.run.track, first = lastAt(track, from), points = [];
    const begin = this.at(Math.max(from, track[0][0]));
    if (begin) points.push(begin);
    for (let at = first + 1; at < track.length && track[at][0] < to; at++) points.push(track[at].slice(1));
    // The beginning of a jump is a place without a way on, also where the stretch begins just before it.
    if (first >= 0 && begin && track[first][3] === JUMPS) begin[2] = JUMPS;
    const end = this.at(Math.min(to, track[track.length - 1][0]));
    if (end) points.push(end);
    return points;
  }

  draw(view) {
    if (!this.run.track.length) { this.place.textContent = "No true track was recorded."; return; }
    this.view = view;
    this.width = Math.max(240, this.place.clientWidth);
    this.height = Math.round(Math.min(620, Math.max(300, this.width * 0.95)));
    this.fit(this.stretch(view.from, view.to));
    // Where the north arrow and the scale bar will be.
    this.labels = [[this.width - 40, 0, this.width, 54], [0, this.height - 44, 160, this.height]];
    this.drawing = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, height: this.height, role: "img",
      "aria-label": "Map of the drive: the true track, the positions dispatch has, and where faults lasted" });
    this.grid();
    if (view.from > 0 || view.to < this.run.end) this.line(this.run.track.map(row => row.slice(1)), 0.3, 2);
    this.faultStretches();
    this.line(this.stretch(view.from, view.to), 1, 3);
    this.published();
    this.strays();
    this.ends();
    this.presses();
    this.furniture();
    this.marker = svg("g", { "pointer-events": "none" });
    this.drawing.append(this.marker);
    this.place.replaceChildren(this.drawing);
  }

  fit(points) {
    const places = points.map(point => this.plane(point[0], point[1]));
    const xs = places.map(place => place[0]), ys = places.map(place => place[1]);
    const low = [Math.min(...xs), Math.min(...ys)], high = [Math.max(...xs), Math.max(...ys)];
    this.centre = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    this.scale = Math.min((this.width - 2 * MAP_MARGIN) / Math.max(LEAST_MAP_M, high[0] - low[0]),
      (this.height - 2 * MAP_MARGIN - 20) / Math.max(LEAST_MAP_M, high[1] - low[1]));
  }

  path(points) {
    return points.map((point, at) => {
      const [x, y] = this.pixel(point[0], point[1]);
      return `${at && points[at - 1][2] !== JUMPS ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    }).join("");
  }

  // Dashed where there was no fix.
  line(points, opacity, width) {
    for (let begin = 0; begin < points.length - 1;) {
      let end = begin + 1;
      while (end < points.length - 1 && points[end][2] === points[begin][2]) end++;
      if (points[begin][2] !== JUMPS) this.drawing.append(svg("path", { d: this.path(points.slice(begin, end + 1)), fill: "none", opacity,
        stroke: "var(--truth)", "stroke-width": width, "stroke-linejoin": "round",
        "stroke-linecap": points[begin][2] ? "round" : "butt",
        "stroke-dasharray": points[begin][2] ? "none" : "2 5" }));
      begin = end;
    }
  }

  grid() {
    const step = this.round(90 / this.scale) * this.scale;
    for (let x = step / 2; x < this.width; x += step)
      this.drawing.append(svg("path", { d: `M${x} 0V${this.height}`, stroke: "var(--grid)" }));
    for (let y = step / 2; y < this.height; y += step)
      this.drawing.append(svg("path", { d: `M0 ${y}H${this.width}`, stroke: "var(--grid)" }));
  }

  round(m) {
    const power = 10 ** Math.floor(Math.log10(m)), digit = m / power;
    return (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10) * power;
  }

  faultStretches() {
    for (const [kind, from, to, detail] of this.run.faults) {
      if (to < this.view.from || from > this.view.to) continue;
      const points = this.stretch(Math.max(from, this.view.from), Math.min(to, this.view.to));
      if (!points.length) continue;
      this.drawing.append(svg("path", { d: this.path(points), fill: "none", opacity: 0.45,
        stroke: faultColour(kind, this.kinds), "stroke-width": 16, "stroke-linejoin": "round",
        "stroke-linecap": "round" }, svg("title", {}, `${kind}, ${clock(from)} to ${clock(to)}. ${detail}`)));
    }
  }

  published() {
    for (const [history, colour, width] of [[1, "var(--history)", 8], [0, "var(--live)", 6]]) {
      const shown = this.run.positions.filter(one =>
        one[4] === history && one[0] >= this.view.from && one[0] <= this.view.to);
      const d = shown.map(one => {
        const [x, y] = this.pixel(one[2], one[3]);
        return `M${x.toFixed(1)} ${y.toFixed(1)}h0`;
      }).join("");
      if (!d) continue;
      this.drawing.append(svg("path", { d, stroke: colour, "stroke-width": width, "stroke-linecap": "round" }));
      // Hollow: told from the live ones without colour, too.
      if (history) this.drawing.append(svg("path", { d, stroke: "var(--surface)", "stroke-width": 4, "stroke-linecap": "round" }));
    }
  }

  // Positions far from the truth: a line to each, and for those beyond the edge a sign at the edge and a word.
  strays() {
    const beyond = [];
    for (const one of this.run.positions) {
      const place = one[5] !== null && one[5] >= STRAY_M && one[0] >= this.view.from && one[0] <= this.view.to && this.at(one[0]);
      if (!place) continue;
      const [x, y] = this.pixel(place[0], place[1]), [u, v] = this.pixel(one[2], one[3]);
      const outside = u < 0 || v < 0 || u > this.width || v > this.height;
      const words = `Position of ${clock(one[0])}, ${metres(one[5])} from the vehicle`;
      this.drawing.append(svg("path", { d: `M${x} ${y}L${u} ${v}`, stroke: "var(--bad)", "stroke-width": 1.5, "stroke-dasharray": "6 3" },
        svg("title", {}, words)));
      if (!outside) continue;
      beyond.push(one[5]);
      const a = Math.min(this.width - 10, Math.max(10, u)), b = Math.min(this.height - 10, Math.max(10, v));
      // Where the line to it leaves the map.
      const part = Math.min(u === x ? 1 : (a - x) / (u - x), v === y ? 1 : (b - y) / (v - y));
      const turn = Math.atan2(v - y, u - x) * 180 / Math.PI;
      this.drawing.append(svg("path", { d: "M8 0L-6 -7V7Z", fill: "var(--bad)",
        transform: `translate(${x + (u - x) * part} ${y + (v - y) * part}) rotate(${turn})` }, svg("title", {}, words)));
    }
    if (!beyond.length) return;
    const words = `${beyond.length} position${beyond.length > 1 ? "s" : ""} beyond this map, up to ${metres(Math.max(...beyond))} off`;
    this.labels.push([0, 0, textWidth(words, true) + 16, 26]);
    this.drawing.append(svg("text", { x: 8, y: 19, class: "halo title stray" }, words));
  }

  ends() {
    const track = this.run.track;
    for (const [row, word] of [[track[0], "Start"], [track[track.length - 1], "End"]]) {
      if (row[0] < this.view.from - 0.01 || row[0] > this.view.to) continue;
      const [x, y] = this.pixel(row[1], row[2]);
      this.drawing.append(word === "Start"
        ? svg("path", { d: `M${x - 6} ${y - 8}L${x + 9} ${y}L${x - 6} ${y + 8}Z`, fill: "var(--good)", stroke: "var(--surface)", "stroke-width": 2 })
        : svg("rect", { x: x - 7, y: y - 7, width: 14, height: 14, fill: "var(--ink)", stroke: "var(--surface)", "stroke-width": 2 }));
      this.label(x, y, word, true);
    }
  }

  presses() {
    const shown = this.run.presses.filter(press => press[0] >= this.view.from && press[0] <= this.view.to && !press[5]);
    for (const press of shown) {
      const place = this.at(press[0]);
      if (!place) continue;
      const [x, y] = this.pixel(place[0], place[1]);
      this.drawing.append(svg("path", { d: `M${x} ${y - 7}l7 7l-7 7l-7 -7Z`, fill: "var(--surface)",
        stroke: "var(--ink)", "stroke-width": 2 }, svg("title", {}, `${press[1]} pressed at ${clock(press[0])}`)));
      if (shown.length <= MOST_NAMED_PRESSES) this.label(x, y, press[1]);
    }
  }

  // A label beside a place, where it covers neither another nor the edge; left out when there is no room.
  label(x, y, text, must = false) {
    const width = textWidth(text, must) + 6;
    const places = [[12, 4], [-width - 8, 4], [-width / 2, -14], [-width / 2, 24], [12, -14], [12, 24],
      [-width - 8, -14], [-width - 8, 24], [12, 42], [-width - 8, 42]];
    for (const [dx, dy] of places) {
      const box = [x + dx, y + dy - 13, x + dx + width, y + dy + 4];
      const free = box[0] > 2 && box[1] > 2 && box[2] < this.width - 2 && box[3] < this.height - 2 &&
        this.labels.every(one => box[2] < one[0] || box[0] > one[2] || box[3] < one[1] || box[1] > one[3]);
      if (!free) continue;
      this.labels.push(box);
      this.drawing.append(svg("text", { x: x + dx, y: y + dy, class: must ? "halo title" : "halo" }, text));
      return;
    }
  }

  furniture() {
    const lengthM = this.round(110 / this.scale), width = lengthM * this.scale, y = this.height - 14;
    this.drawing.append(svg("rect", { x: 6, y: y - 22, width: width + 22, height: 32, fill: "var(--surface)", opacity: 0.85, rx: 4 }),
      svg("path", { d: `M16 ${y - 5}v5h${width}v-5`, fill: "none", stroke: "var(--ink)", "stroke-width": 2 }),
      svg("text", { x: 16 + width / 2, y: y - 6, "text-anchor": "middle" }, lengthM < 1000 ? `${lengthM} m` : `${lengthM / 1000} km`));
    const x = this.width - 22;
    this.drawing.append(svg("path", { d: `M${x} 12l8 22l-8 -6l-8 6Z`, fill: "var(--ink)" }),
      svg("text", { x, y: 48, "text-anchor": "middle", class: "title halo" }, "N"));
  }

  // The vehicle at a time, and where dispatch's map had it then.
  mark(t, believed) {
    if (!this.marker) return;
    this.marker.replaceChildren();
    const place = this.at(t);
    if (!place) return;
    const [x, y] = this.pixel(place[0], place[1]);
    if (believed) {
      const [u, v] = this.pixel(believed[0], believed[1]);
      this.marker.append(svg("path", { d: `M${x} ${y}L${u} ${v}`, stroke: "var(--ink)", "stroke-dasharray": "4 4", "stroke-width": 1.5 }),
        svg("path", { d: `M${u - 8} ${v - 8}l16 16m0 -16l-16 16`, stroke: "var(--surface)", "stroke-width": 6 }),
        svg("path", { d: `M${u - 8} ${v - 8}l16 16m0 -16l-16 16`, stroke: "var(--live)", "stroke-width": 3 }));
    }
    this.marker.append(svg("circle", { cx: x, cy: y, r: 10, fill: "none", stroke: "var(--surface)", "stroke-width": 6 }),
      svg("circle", { cx: x, cy: y, r: 10, fill: "none", stroke: "var(--ink)", "stroke-width": 3 }));
  }

  nearestTime(event) {
    if (!this.drawing) return null;
    const box = this.drawing.getBoundingClientRect();
    const x = (event.clientX - box.left) * this.width / box.width, y = (event.clientY - box.top) * this.height / box.height;
    const track = this.run.track;
    let best = null, least = Infinity;
    for (let at = Math.max(0, lastAt(track, this.view.from)); at < track.length - 1 && track[at][0] <= this.view.to; at++) {
      const [ax, ay] = this.pixel(track[at][1], track[at][2]), [bx, by] = this.pixel(track[at + 1][1], track[at + 1][2]);
      const dx = bx - ax, dy = by - ay, length2 = track[at][3] === JUMPS ? 0 : dx * dx + dy * dy;
      const part = length2 ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length2)) : 0;
      const off = Math.hypot(x - ax - dx * part, y - ay - dy * part);
      if (off < least - 0.5) { least = off; best = track[at][0] + (track[at + 1][0] - track[at][0]) * part; }
    }
    return best === null ? null : Math.min(this.view.to, Math.max(this.view.from, best));
  }

  legend(list) {
    const truth = dash => svg("path", { d: "M1 8H27", stroke: "var(--truth)", "stroke-width": 3, "stroke-dasharray": dash });
    const dot = (colour, r) => svg("circle", { cx: 14, cy: 8, r, fill: colour });
    const entries = [["true track", truth("none")], ["true track, receiver without a fix", truth("2 5")],
      ["published live", dot("var(--live)", 3.5)]];
    if (this.run.positions.some(one => one[4])) entries.push(["published late, from the backlog",
      svg("circle", { cx: 14, cy: 8, r: 3.5, fill: "var(--surface)", stroke: "var(--history)", "stroke-width": 2.5 })]);
    entries.push(["press", svg("path", { d: "M14 1l7 7l-7 7l-7 -7Z", fill: "var(--surface)", stroke: "var(--ink)", "stroke-width": 2 })],
      ["the vehicle at the chosen moment", svg("circle", { cx: 14, cy: 8, r: 6, fill: "none", stroke: "var(--ink)", "stroke-width": 2.5 })],
      ["where dispatch’s map had it then", svg("path", { d: "M8 2l12 12m0 -12l-12 12", stroke: "var(--live)", "stroke-width": 3 })]);
    for (const kind of this.kinds) entries.push([kind,
      svg("path", { d: "M4 8H24", stroke: faultColour(kind, this.kinds), "stroke-width": 10, "stroke-linecap": "round", opacity: 0.6 })]);
    list.replaceChildren(...entries.map(([words, sign]) => {
      const item = document.createElement("li");
      item.append(svg("svg", { width: 28, height: 16, "aria-hidden": "true" }, sign), words);
      return item;
    }));
  }
}
