"""The page of a day: one HTML file that loads nothing, drawn once and for all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hil.city import crew, sim_unit, world
from hil.city.day import Day, Spread
from hil.city.dispatcher import BY_DRAWN
from hil.city.judge import Verdict
from hil.city.world import START_HOUR
from hil.report.page import ASSETS

_WIDE, _HIGH = 640.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 14.0, 34.0
_NONE = "&ndash;"
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; img-src data:\">"
)
_STYLE = """
.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.25rem; align-items: start; }
@media (max-width: 60rem) { .two { grid-template-columns: minmax(0, 1fr); } }
.chart svg, .city svg { display: block; width: 100%; height: auto; }
.chart .axis { stroke: var(--line); } .chart .grid { stroke: var(--grid); }
.bar { fill: var(--truth); } .bar.own { fill: var(--live); } .bar.late { fill: var(--history); }
.line { fill: none; stroke-width: 2.5; } .street { stroke: var(--line); stroke-width: 1; fill: none; }
.main-street { stroke: var(--truth); stroke-width: 1.6; fill: none; opacity: .55; }
.hole { fill: var(--fault-0); opacity: .22; stroke: var(--fault-0); }
.post { fill: var(--live); } .hospital { fill: var(--bad); }
.call { fill: var(--history); opacity: .75; } .call.missed { fill: var(--bad); opacity: 1; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.own th, tr.own td { background: var(--neutral-bg); font-weight: 600; }
.scroll { overflow-x: auto; } .small { color: var(--muted); font-size: .9rem; max-width: 85ch; }
"""


def write_page(day: Day, verdict: Verdict, folder: Path) -> Path:
    """Write the page into a folder, which is made. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    options = day.options
    name = f"city-{options.units}-units-{options.calls}-calls-{options.hours:g}-hours-{options.seed}.html"
    path = folder / name
    path.write_text(page(day, verdict), encoding="utf-8")
    return path


def page(day: Day, verdict: Verdict) -> str:
    """The whole page."""
    options = day.options
    title = f"{options.units} units, {options.calls} calls, {options.hours:g} hours"
    style = (ASSETS / "page.css").read_text(encoding="utf-8") + _STYLE
    good = verdict.account.clean and all(row.agrees for row in verdict.vital)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            _POLICY,
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title><style>\n{style}</style></head><body>",
            _header(day, title, good=good),
            "<main>",
            _summary(day, verdict, good=good),
            _choices(verdict),
            _city(day),
            _picture(day),
            _times(verdict),
            _hints(verdict),
            _air(day),
            _vital(verdict),
            _account(day, verdict),
            _assumed(),
            "</main></body></html>",
            "",
        ]
    )


def _header(day: Day, title: str, *, good: bool) -> str:
    facts = [
        f"seed {day.options.seed}",
        f"streets: {day.world.streets.source}",
        f"ran in {day.wall_s:.0f} s ({day.cpu_s:.0f} s of processor time, {day.rss_mib:.0f} MiB a process)",
        f"digest {day.digest[:16]}",
    ]
    word, kind = ("Nothing lost", "passed") if good else ("Look closer", "failed")
    return (
        f'<header><p class="verdict {kind}">{word}</p><h1>{escape(title)}</h1>'
        '<p class="why">A city&rsquo;s ambulance service for a day: every unit is the agent, dispatch is the '
        "service with its store, and what both make of the day is held against what was really so.</p>"
        f'<ul class="facts">{"".join(f"<li>{escape(fact)}</li>" for fact in facts)}</ul></header>'
    )


def _summary(day: Day, verdict: Verdict, *, good: bool) -> str:
    account, own = verdict.account, next(way for way in verdict.ways if way.name == BY_DRAWN)
    live = day.picture.get("live", Spread())
    delay = verdict.delays_s
    tiles = [
        ("Presses at dispatch", f"{account.stored:,}", f"of {account.expected:,} that had to be"),
        ("Lost, doubled", f"{account.lost}, {account.doubled}", f"{account.out_of_order} out of order"),
        ("Records at dispatch", f"{account.records:,}", f"{account.records_lost} lost"),
        ("Wrong choices", _percent(own.wrong_share), f"{_metres(own.mean_lost_m)} a call lost by them"),
        ("Picture off by", _metres(live.quantile(0.95)), "95 % of live moments, at most"),
        ("Press to commit", "&ndash;" if not delay else f"{delay[len(delay) // 2]:.2f} s", _longest(delay)),
        (
            "Power cuts",
            f"{sum(day.sums.dark.values())}",
            f"{sum(day.sums.lost_staged.values())} of the trail",
        ),
        ("Calls", f"{len(day.choices)}", f"{day.without_unit} without a unit, {day.unanswered} given twice"),
    ]
    shown = "".join(
        f"<div><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>" for label, value, note in tiles
    )
    wrong = "".join(f"<li>{escape(one)}</li>" for one in account.first)
    head = (
        "Every press is at dispatch once and in order; the service&rsquo;s statistics are the truth&rsquo;s."
        if good
        else "What dispatch has is not what happened, see below."
    )
    return (
        '<section><h2>In short</h2><p class="headline '
        + ("passed" if good else "failed")
        + f'">{head}</p>'
        + (f'<ul class="missed-list">{wrong}</ul>' if wrong else "")
        + f'<dl class="figures">{shown}</dl></section>'
    )


# ------------------------------------------------------------------ sections


def _choices(verdict: Verdict) -> str:
    rows = [
        (
            way.name == BY_DRAWN,
            way.name,
            [
                str(way.choices),
                str(way.wrong),
                _percent(way.wrong_share),
                _metres(way.mean_lost_m),
                _metres(way.lost_m / way.wrong if way.wrong else 0.0),
                _metres(way.worst_m),
            ],
        )
        for way in verdict.ways
    ]
    shares = [(way.name, (way.wrong_share or 0) * 100, way.name == BY_DRAWN) for way in verdict.ways]
    left = "; ".join(f"{why}: {count}" for why, count in sorted(verdict.left_out.items())) or "never"
    return _section(
        "The nearest unit, or not",
        "At each call the same free units were looked at through each way of reporting; the way is measured "
        "along the streets. A wrong choice is one that sent a unit although another of those was nearer.",
        '<div class="two"><div class="scroll">'
        + _table(("reporting", "choices", "wrong", "share", "lost a call", "lost a wrong one", "worst"), rows)
        + '</div><figure class="chart">'
        + _bars(shares, "% of choices that were wrong")
        + "</figure></div>"
        f'<p class="small">Beside that, a unit that was really free and nearer was left out because dispatch '
        f"did not know it for free: {escape(left)} choices, {verdict.left_out_m / 1000:.1f} km in all. No "
        "way of reporting positions mends that: it is presses that came late or not at all, and holes in the "
        "coverage.</p>",
    )


def _city(day: Day) -> str:
    one = day.world
    streets, scale = one.streets, 1000 / one.streets.width_m
    high = streets.height_m * scale

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return round(point[0] * scale, 1), round(high - point[1] * scale, 1)

    lines: dict[bool, list[str]] = {True: [], False: []}
    for node, edges in enumerate(streets.edges):
        for other, _, _, main in edges:
            if node < other:
                (x, y), (x_b, y_b) = at(streets.points[node]), at(streets.points[other])
                lines[main].append(f"M{x} {y}L{x_b} {y_b}")
    drawn = [
        f'<path class="street" d="{"".join(lines[False])}"/>',
        f'<path class="main-street" d="{"".join(lines[True])}"/>',
    ]
    for hole in one.holes:
        x, y = at(hole.middle)
        drawn.append(f'<circle class="hole" cx="{x}" cy="{y}" r="{hole.radius_m * scale:.1f}"/>')
    wrong = {choice.incident for choice in day.choices if choice.by[BY_DRAWN].off_m > 0.5}
    for call in one.calls:
        x, y = at(streets.points[call.node])
        missed = " missed" if call.incident in wrong else ""
        drawn.append(f'<circle class="call{missed}" cx="{x}" cy="{y}" r="{5 if missed else 3.5}"/>')
    for post in one.posts:
        x, y = at(streets.points[post.node])
        drawn.append(f'<rect class="post" x="{x - 7}" y="{y - 7}" width="14" height="14" rx="2"/>')
    for hospital in one.hospitals:
        x, y = at(streets.points[hospital.node])
        drawn.append(f'<path class="hospital" d="M{x - 4} {y - 11}h8v7h7v8h-7v7h-8v-7h-7v-8h7z"/>')
    by_hour = [0] * math.ceil(day.world.duration_s / 3600)
    for call in one.calls:
        by_hour[int(call.at_s // 3600)] += 1
    hours = [(f"{(START_HOUR + hour) % 24:02d}", float(count), False) for hour, count in enumerate(by_hour)]
    legend = (
        "Blue squares are posts, crosses hospitals, pink circles have no coverage. Small dots are calls; red "
        "ones got a unit that was not the nearest."
    )
    return _section(
        "The city",
        "",
        f'<div class="two"><figure class="city"><svg viewBox="0 0 1000 {high:.0f}" role="img" aria-label='
        f'"Map of streets, posts, hospitals, holes in the coverage and calls">{"".join(drawn)}</svg>'
        f"<figcaption>{legend}</figcaption></figure>"
        f'<figure class="chart">{_bars(hours, "calls an hour, by the hour of the day (UTC)")}</figure></div>',
    )


def _picture(day: Day) -> str:
    words = {
        "live": "what dispatch may take for now",
        "late": "older than it should be, and shown so",
        "stale": "too old, and shown so",
        "offline": "no connection, and shown so",
        "no_fix": "no fix, and shown so",
        "doubtful": "the vehicle doubts it, and says so",
    }
    rows = []
    total = sum(spread.cases for spread in day.picture.values())
    for word, meaning in words.items():
        spread = day.picture.get(word)
        if spread is None:
            continue
        rows.append(
            (
                word == "live",
                f"{word}: {meaning}",
                [
                    _percent(spread.cases / total, 2),
                    _metres(spread.quantile(0.5)),
                    _metres(spread.quantile(0.95)),
                    _metres(spread.quantile(0.99)),
                    _percent(spread.share_within(25), 2),
                ],
            )
        )
    live = day.picture.get("live", Spread())
    steps = [
        (f"{metres}", (live.share_within(metres) or 0) * 100, False) for metres in (5, 10, 15, 20, 25, 30, 50)
    ]
    return _section(
        "Dispatch&rsquo;s picture and the truth",
        "Every five seconds each unit as dispatch&rsquo;s map draws it, straight on from its last report, "
        "against where it was. The receiver&rsquo;s own error is in it.",
        '<div class="two"><div class="scroll">'
        + _table(("the picture says", "of the time", "median", "95 %", "99 %", "within 25 m"), rows)
        + '</div><figure class="chart">'
        + _bars(steps, "% of live moments within so many metres")
        + "</figure></div>",
    )


def _times(verdict: Verdict) -> str:
    rows = [
        (
            False,
            one.status.replace("_", " "),
            [
                str(one.happened),
                str(one.pressed),
                _seconds(one.median_s),
                _seconds(one.p90_s),
                _percent(one.over_minute),
            ],
        )
        for one in verdict.times
    ]
    return _section(
        "Pressed against true times",
        "The time of the record at dispatch less the time at which it was really so. It shows the error "
        "model of the crews, as it survives the way to dispatch; see the assumptions below.",
        '<div class="scroll">'
        + _table(("status", "happened", "pressed", "median", "90 %", "over a minute off"), rows)
        + "</div>",
    )


def _hints(verdict: Verdict) -> str:
    told = sum(one.told for one in verdict.hints)
    rows = [
        (
            False,
            one.rule.replace("_", " "),
            [
                str(one.told),
                str(one.hits),
                str(one.needless),
                str(one.false),
                _percent(one.false / one.told if one.told else None),
            ],
        )
        for one in verdict.hints
    ]
    return _section(
        "Hints of forgotten presses",
        f"{told} hints. A hit: it was so and nobody had pressed. Just made: the crew pressed within the next "
        "seconds anyway. False: it was not so, or had been pressed. "
        f"{verdict.forgotten} presses were forgotten to the end.",
        '<div class="scroll">'
        + _table(("rule", "told", "hits", "just made", "false", "false share"), rows)
        + "</div>",
    )


def _air(day: Day) -> str:
    rows = []
    for kind, count in sorted(day.bytes_of.items(), key=lambda one: -one[1]):
        messages = day.messages_of[kind]
        rows.append(
            (
                False,
                kind,
                [
                    f"{count / day.duty_hours:,.0f}",
                    f"{messages / day.duty_hours:,.0f}",
                    f"{count / messages:,.0f}",
                ],
            )
        )
    total = sum(day.bytes_of.values())
    rows.append(
        (
            True,
            "all",
            [f"{total / day.duty_hours:,.0f}", f"{sum(day.messages_of.values()) / day.duty_hours:,.0f}", ""],
        )
    )
    return _section(
        "Over the air",
        "MQTT packets of a unit in an hour of duty, without TLS and TCP. The bus of these units tells five "
        "signals, and there is no state/health: the twelve-hour bench (air.shift) has both. Battery: left "
        "out. No model here has what the computer draws; a made-up figure would look like a measured one.",
        '<div class="scroll">'
        + _table(("topic", "bytes an hour", "messages an hour", "bytes each"), rows)
        + "</div>",
    )


def _vital(verdict: Verdict) -> str:
    rows = [
        (
            False,
            row.name,
            [
                _seconds(row.service),
                _seconds(row.truth),
                str(row.cases),
                str(row.truth_cases),
                "yes" if row.agrees else '<span class="never">no</span>',
            ],
        )
        for row in verdict.vital
    ]
    return _section(
        "Vital statistics",
        "What mdt-dispatch stats says, against the same reckoned from the crews&rsquo; hands and the "
        "dispatcher&rsquo;s clock. Equal: the same cases, and within a second.",
        '<div class="scroll">'
        + _table(("figure", "service", "truth", "cases", "true cases", "equal"), rows)
        + "</div>",
    )


def _account(day: Day, verdict: Verdict) -> str:
    one = verdict.account
    rows = [
        ("status records that the presses had to become", one.expected),
        ("status records at dispatch", one.stored),
        ("lost", one.lost),
        ("doubled or never pressed", one.doubled),
        ("out of order", one.out_of_order),
        ("with a time more than two seconds off", one.wrong_time),
        ("records of all kinds at dispatch", one.records),
        ("records lost that a unit had on its disk", one.records_lost),
        ("records twice", one.records_doubled),
        ("records still on units' disks", one.waiting),
        ("payloads that dispatch could not read", one.refused),
        ("power cuts", sum(day.sums.dark.values())),
        ("trail records that they took, not yet on the disk", sum(day.sums.lost_staged.values())),
        ("times that records were sent again", sum(day.sums.sent_again.values())),
    ]
    shown = [(False, label, [f"{count:,}"]) for label, count in rows]
    return _section("Account", "", _table(("", "count"), shown))


def _assumed() -> str:
    habits = crew.Habits()
    items = [
        f"""Crews forget {habits.missed:.0%} of presses, take the wrong key first in {habits.wrong:.1%}, press
        {habits.doubled:.0%} twice, are early with {habits.early:.0%} of what they see coming, and
        else late by a log-normal delay: median {habits.late_median_s:g} s (sigma
        {habits.late_sigma:g}). Assumed.""",
        f"Asked by the page, they make {habits.heeds:.0%} of forgotten presses. Assumed.",
        f"""From the scene to the patient: median {sim_unit.PATIENT_MEDIAN_S:g} s (New York, n = 449).
        On scene {sim_unit.SCENE_MEDIAN_S / 60:g} min, at the hospital {sim_unit.HOSPITAL_MEDIAN_S / 60:g}
        min: assumed.""",
        f"""Calls follow a sine over the day with its peak at {world.PEAK_HOUR:g} h, as 311,848,450 records of
        the US national system do (Helander, Formica, Bergen-Cico, 2023); its depth is assumed.""",
        f"""{world.CENTRE_SHARE:.0%} of calls are about the centre, {world.TRANSPORTED:.0%} are transported, a
        unit has {sim_unit.POWER_CUTS_A_DAY:g} power cuts a day. Assumed.""",
        """The dispatcher sends the nearest unit that the service's picture takes for free and online, along
        the streets, 40 to 80 s after the telephone rings. Other ways of reporting are judged at the same
        moments, with a message that takes no time and a map that draws the unit where it was told.""",
    ]
    shown = "".join(f"<li>{escape(one)}</li>" for one in items)
    return _section("What is assumed", "", f'<ul class="story">{shown}</ul>')


# ------------------------------------------------------------------ parts


def _section(title: str, intro: str, body: str) -> str:
    told = f'<p class="intro">{intro}</p>' if intro else ""
    return f"<section><h2>{title}</h2>{told}{body}</section>"


def _table(head: Sequence[str], rows: Iterable[tuple[bool, str, Sequence[str]]]) -> str:
    first, *others = head
    top = f'<th scope="col">{first}</th>' + "".join(
        f'<th scope="col" class="number">{one}</th>' for one in others
    )
    body = "".join(
        f'<tr{" class=own" if own else ""}><th scope="row">{escape(label)}</th>'
        + "".join(f'<td class="number">{value}</td>' for value in values)
        + "</tr>"
        for own, label, values in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _bars(bars: Sequence[tuple[str, float, bool]], label: str) -> str:
    most = max((value for _, value, _ in bars), default=0.0)
    top = _nice(most) if most > 0 else 1.0
    inner_w, inner_h = _WIDE - _LEFT - _RIGHT, _HIGH - _TOP - _BOTTOM
    each = inner_w / max(len(bars), 1)
    parts = []
    for step in range(5):
        value, y = top * step / 4, _TOP + inner_h * (1 - step / 4)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="muted" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for at, (name, value, own) in enumerate(bars):
        high = inner_h * value / top
        x, y = _LEFT + each * (at + 0.15), _TOP + inner_h - high
        kind = "bar own" if own else "bar"
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{each * 0.7:.1f}" height="{high:.1f}">'
            f"<title>{escape(name)}: {value:.3g}</title></rect>"
        )
        parts.append(
            f'<text class="muted" x="{x + each * 0.35:.1f}" y="{_HIGH - 16}" text-anchor="middle">'
            f"{escape(_short(name))}</text>"
        )
    return (
        f'<svg viewBox="0 0 {_WIDE:.0f} {_HIGH:.0f}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
        f"<figcaption>{escape(label)}</figcaption>"
    )


def _short(name: str) -> str:
    return name.removeprefix("every ").replace("25 m, ", "")


def _nice(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)


def _percent(share: float | None, digits: int = 1) -> str:
    return _NONE if share is None else f"{share * 100:.{digits}f} %"


def _metres(metres: float | None) -> str:
    return _NONE if metres is None else f"{metres:,.0f} m"


def _seconds(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:,.1f} s"


def _longest(ordered: Sequence[float]) -> str:
    return (
        ""
        if not ordered
        else f"99 % within {ordered[int(len(ordered) * 0.99)]:.1f} s, longest {ordered[-1]:.0f} s"
    )
