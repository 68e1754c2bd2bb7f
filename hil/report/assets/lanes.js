// Time lines: one lane below the other on one axis of time.

const GUTTER = 58, RIGHT = 12, ROW = 24, TITLE = 26;

class TimeLanes {
  constructor(run, place) {
    this.run = run;
    this.place = place;
    this.kinds = [...new Set(run.faults.map(fault => fault[0]))];
  }

  x(t) {
    return GUTTER + (t - this.view.from) / (this.view.to - this.view.from) * (this.width - GUTTER - RIGHT);
  }

  time(clientX) {
    const box = this.drawing.getBoundingClientRect();
    const part = (clientX - box.left - GUTTER) / (box.width - GUTTER - RIGHT);
    return this.view.from + Math.min(1, Math.max(0, part)) * (this.view.to - this.view.from);
  }

  draw(view) {
    this.view = view;
    this.width = Math.max(280, this.place.clientWidth);
    this.y = 30;
    this.behind = svg("g");
    this.front = svg("g");
    this.faults();
    this.presses();
    this.fix();
    this.links("vehicle", "Connection, as the vehicle saw it", ["connected", "no connection"]);
    this.links("dispatch", "Link state at dispatch", ["online", "offline"]);
    this.reasons();
    this.backlog();
    this.latencies();
    this.height = this.y + 44;
    this.axis();
    this.cursor = svg("g", { "pointer-events": "none" });
    this.selection = svg("rect", { y: 24, height: this.height - 60, width: 0, fill: "var(--focus)", opacity: 0.2 });
    this.drawing = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, height: this.height, "aria-hidden": "true" },
      svg("clipPath", { id: "within" }, svg("rect", { x: GUTTER - 1, y: 0, width: this.width - GUTTER - RIGHT + 2, height: this.height })),
      this.behind, this.front, this.selection, this.cursor);
    this.place.replaceChildren(this.drawing);
  }

  // The note stands beside the title, or below it where there is no room.
  title(words, note = "") {
    this.front.append(svg("text", { x: 0, y: this.y + 17, class: "title" }, words));
    const beside = textWidth(words, true) + 12;
    const fits = beside + textWidth(note) <= this.width;
    if (note && !fits) this.y += 19;
    if (note) this.front.append(svg("text", { x: fits ? beside : 0, y: this.y + 17, class: "muted" }, note));
    this.y += TITLE;
  }

  inView(spans, column) {
    return spans.filter(span => span[column] <= this.view.to && span[column + 1] >= this.view.from);
  }

  clipped(...children) {
    this.front.append(svg("g", { "clip-path": "url(#within)" }, ...children));
  }

  // A bar with its words in it, or beside it where it is too short for them.
  bar(from, to, words, colour, { hollow = false, title = words, solid = 0.3 } = {}) {
    if (to < this.view.from || from > this.view.to) return;
    const left = Math.max(this.x(from), GUTTER), right = Math.min(this.x(to), this.width - RIGHT);
    const width = Math.max(3, right - left), room = textWidth(words) + 10;
    const rect = svg("rect", { x: left, y: this.y + 2, width, height: ROW - 5, rx: 2, fill: hollow ? "none" : colour,
      "fill-opacity": solid, stroke: colour, "stroke-width": 1.5, "stroke-dasharray": hollow ? "3 3" : "none" });
    rect.append(svg("title", {}, `${title}, ${clock(from)} to ${clock(to)} (${duration((to - from) / this.run.speed)})`));
    this.clipped(rect);
    const end = this.width - RIGHT;
    const at = room <= width ? left + 5 : right + room <= end && room > width ? right + 5 : left - room >= GUTTER ? left - room + 5 : null;
    return at === null || !words ? null : { at, y: this.y + ROW - 8, words };
  }

  // Words of a row's bars, but for those that would cover another bar or other words.
  rowWords(labels, bars) {
    let taken = -Infinity;
    labels.forEach((label, own) => {
      if (!label || label.at < taken) return;
      const end = label.at + textWidth(label.words);
      if (bars.some((bar, other) => other !== own && bar[0] < end && bar[1] > label.at)) return;
      this.front.append(svg("text", { x: label.at, y: label.y }, label.words));
      taken = end + 6;
    });
  }

  row(spans, draw) {
    const bars = spans.map(span => [this.x(span[0]), Math.max(this.x(span[1]), this.x(span[0]) + 3)]);
    this.rowWords(spans.map(draw), bars);
    this.y += ROW;
  }

  faults() {
    if (!this.run.faults.length) return;
    const inView = this.inView(this.run.faults, 1);
    this.title("Faults put on the rig", inView.length ? "" : "none in this window");
    for (const kind of this.kinds.filter(one => inView.some(fault => fault[0] === one))) {
      const colour = faultColour(kind, this.kinds);
      const mine = this.run.faults.filter(fault => fault[0] === kind);
      this.row(mine.map(fault => [fault[1], fault[2], fault[3]]), ([from, to, detail]) =>
        this.bar(from, to, kind, colour, { title: `${kind}. ${detail}`, solid: 0.35 }));
    }
    this.y += 4;
  }

  presses() {
    if (!this.run.presses.length) return;
    this.title("Presses, and until when on their way to dispatch");
    // What finds no room for its name goes to a row of its own below.
    const rows = this.width < 520 ? 5 : 4, taken = Array(rows).fill(-Infinity), end = this.width - RIGHT;
    let crowded = false;
    for (const [t, key, , , dispatched, nothingNew] of this.run.presses) {
      if (t < this.view.from || t > this.view.to) continue;
      const x = this.x(t), room = textWidth(key) + 16;
      const flip = x + room > end, left = flip ? x - room : x - 8;
      let row = taken.findIndex(edge => left > edge);
      const labelled = row >= 0;
      if (!labelled) { row = rows; crowded = true; }
      else taken[row] = flip ? x + 8 : x + room;
      const y = this.y + row * 20 + 10, colour = nothingNew ? "var(--muted)" : dispatched === null ? "var(--bad)" : "var(--good)";
      const until = dispatched === null ? (nothingNew ? x : end) : Math.min(end, this.x(t + dispatched * this.run.speed));
      if (until - x > 8) this.clipped(svg("path", { d: `M${x} ${y}H${until}m0 -5v10`, stroke: colour, "stroke-width": 2, fill: "none",
        "stroke-dasharray": dispatched === null ? "4 4" : "none" }));
      const told = nothingNew ? "said nothing new" : dispatched === null ? "never reached dispatch" : `at dispatch after ${duration(dispatched)}`;
      this.clipped(svg("path", { d: `M${x} ${y - 6}l6 6l-6 6l-6 -6Z`, fill: nothingNew ? "var(--surface)" : colour, stroke: colour,
        "stroke-width": 2 }, svg("title", {}, `${key} at ${clock(t)}: ${told}`)));
      if (labelled) this.front.append(svg("text", { x: flip ? x - 9 : x + 10, y: y + 4.5, "text-anchor": flip ? "end" : "start", class: "halo" }, key));
    }
    const used = crowded ? rows + 1 : taken.filter(edge => edge > -Infinity).length || 1;
    this.y += used * 20 + 6;
  }

  fix() {
    const spans = [];
    for (const [t, , , state] of this.run.track) {
      const fix = state ? 1 : 0;
      const before = spans[spans.length - 1];
      if (before) before[1] = t;
      if (!before || before[2] !== fix) spans.push([t, t, fix]);
    }
    if (!spans.length) return;
    this.title("GNSS reception on the drive (truth)");
    this.row(spans, ([from, to, fix]) => this.bar(from, to, fix ? "fix" : "no fix", fix ? "var(--good)" : "var(--bad)", { hollow: !fix }));
  }

  links(view, title, [up, down]) {
    const spans = this.run.links[view];
    if (!spans.length) return;
    this.title(title);
    this.row(spans, ([from, to, online]) => this.bar(from, to, online ? up : down, online ? "var(--good)" : "var(--bad)", { hollow: !online }));
  }

  reasons() {
    if (!this.run.reasons.length) return;
    const inView = this.inView(this.run.reasons, 1);
    this.title("What the vehicle said is wrong with it", inView.length ? "" : "nothing in this window");
    for (const reason of [...new Set(inView.map(row => row[0]))]) {
      const mine = this.run.reasons.filter(row => row[0] === reason);
      this.row(mine.map(row => row.slice(1)), ([from, to, detail]) =>
        this.bar(from, to, reason, "var(--history)", { title: detail ? `${reason}: ${detail}` : reason }));
    }
  }

  // A lane with an axis of its own; returns the function from value to y.
  scaled(title, note, height, ticks, place) {
    this.title(title, note);
    const top = this.y + 6;
    for (const [value, words] of ticks) {
      const y = top + place(value) * height;
      this.behind.append(svg("path", { d: `M${GUTTER} ${y}H${this.width - RIGHT}`, stroke: "var(--line)" }));
      this.front.append(svg("text", { x: GUTTER - 7, y: y + 4.5, "text-anchor": "end", class: "muted" }, words));
    }
    this.y = top + height + 12;
    return value => top + place(value) * height;
  }

  backlog() {
    const points = this.run.backlog;
    if (!points.length) return;
    const most = Math.max(1, ...points.map(point => point[1]));
    const power = 10 ** Math.floor(Math.log10(most)), top = [1, 2, 3, 4, 5, 6, 8, 10].map(step => step * power).find(value => value >= most);
    const ticks = [...new Set([0, top >= 2 ? top / 2 : 0, top])].filter(Number.isInteger).map(value => [value, String(value)]);
    const y = this.scaled("Records waiting in the vehicle", "", 64, ticks, value => 1 - value / top);
    let d = `M${this.x(points[0][0])} ${y(points[0][1])}`;
    for (const [t, records] of points.slice(1)) d += `H${this.x(t).toFixed(1)}V${y(records).toFixed(1)}`;
    const foot = `V${y(0)}H${this.x(points[0][0]).toFixed(1)}Z`;
    this.clipped(svg("path", { d: d + foot, fill: "var(--history)", opacity: 0.25 }),
      svg("path", { d, fill: "none", stroke: "var(--history)", "stroke-width": 2 }));
  }

  latencies() {
    const points = this.run.latencies;
    if (!points.length) return;
    const low = 0.001, high = Math.max(10, ...points.map(point => point[1]));
    const decades = Math.ceil(Math.log10(high) - 1e-9) + 3;
    const words = ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s", "1000 s", "10⁴ s", "10⁵ s"];
    const ticks = [...Array(decades + 1).keys()].map(decade => [low * 10 ** decade, words[decade] ?? ""]);
    const place = value => 1 - Math.max(0, Math.log10(Math.max(value, low) / low)) / decades;
    const y = this.scaled("Time to dispatch", "each step ten times as long", 24 * decades, ticks, place);
    const signs = { "live position": ["var(--live)", 4], position: ["var(--truth)", 4], status: ["var(--good)", 8], emergency: ["var(--bad)", 8] };
    let legend = GUTTER, line = this.y + 4;
    this.run.latencyKinds.forEach((kind, number) => {
      const [colour, width] = signs[kind] ?? [`var(--fault-${(number + 1) % FAULT_COLOURS})`, 5];
      const d = points.filter(point => point[2] === number && point[0] >= this.view.from && point[0] <= this.view.to)
        .map(point => `M${this.x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}h0`).join("");
      this.clipped(svg("path", { d: d || "M0 0", stroke: colour, "stroke-width": width, "stroke-linecap": "round", opacity: d ? 1 : 0 }));
      if (legend + textWidth(kind) + 20 > this.width) { legend = GUTTER; line += 20; }
      this.front.append(svg("circle", { cx: legend + 5, cy: line + 4, r: Math.max(3.5, width / 2), fill: colour }),
        svg("text", { x: legend + 14, y: line + 8.5, class: "muted" }, kind));
      legend += textWidth(kind) + 32;
    });
    if (this.run.latenciesThinned) {
      line += 20;
      this.front.append(svg("text", { x: GUTTER, y: line + 8.5, class: "muted" }, "longest and shortest of each moment"));
    }
    this.y = line + 18;
  }

  axis() {
    const { ticks, fine } = timeTicks(this.view.from, this.view.to, Math.max(3, (this.width - GUTTER) / 85));
    const bottom = this.height - 36, below = [];
    for (const [, from, to] of this.run.faults) {
      if (to < this.view.from || from > this.view.to || to - from < 0.01) continue;
      const left = Math.max(GUTTER, this.x(from));
      below.push(svg("rect", { x: left, y: 24, width: Math.max(1, Math.min(this.width - RIGHT, this.x(to)) - left), height: bottom - 24, fill: "var(--ink)", opacity: 0.06 }));
    }
    this.behind.prepend(...below);
    for (const t of ticks) {
      const x = this.x(t), anchor = x > this.width - 30 ? "end" : "middle";
      this.behind.append(svg("path", { d: `M${x} 24V${bottom}`, stroke: "var(--grid)" }));
      for (const y of [16, bottom + 17])
        this.front.append(svg("text", { x: anchor === "end" ? this.width - 1 : x, y, "text-anchor": anchor, class: "muted" }, clock(t, fine)));
    }
    this.front.append(svg("text", { x: (GUTTER + this.width - RIGHT) / 2, y: this.height - 2, "text-anchor": "middle", class: "muted" },
      this.run.end < 3600 ? "time since the start of the drive, minutes : seconds" : "time since the start, hours : minutes : seconds"));
  }

  mark(t) {
    if (!this.cursor) return;
    this.cursor.replaceChildren();
    if (t < this.view.from || t > this.view.to) return;
    const x = this.x(t), words = clock(t, true), width = textWidth(words, true) + 14;
    const left = Math.min(this.width - width, Math.max(0, x - width / 2));
    this.cursor.append(svg("path", { d: `M${x} 22V${this.height - 36}`, stroke: "var(--ink)", "stroke-width": 1.5 }),
      svg("rect", { x: left, y: 0, width, height: 22, rx: 4, fill: "var(--ink)" }),
      svg("text", { x: left + 7, y: 16, class: "title", style: "fill: var(--surface)" }, words));
  }

  select(a, b) {
    const [from, to] = a < b ? [a, b] : [b, a];
    this.selection.setAttribute("x", this.x(from));
    this.selection.setAttribute("width", Math.max(0, this.x(to) - this.x(from)));
  }
}
