"""The page: one HTML file that needs nothing else, neither a network nor a library."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from hil.report.model import ExpectationRow, PressMark, RunReport, RunVerdict
from hil.report.page_data import page_data
from hil.report.summary import figures, headline, sentences
from hil.report.words import clock, duration, in_words

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("drawing.js", "map.js", "lanes.js", "page.js")
"""In the order in which they need each other."""
MOST_LOG_LINES = 400
MOST_FOUND = 240
MOST_OPEN_ROWS = 30
"""A longer table is closed at first."""
VERDICT_WORDS = {
    RunVerdict.PASSED: "Passed",
    RunVerdict.FAILED: "Failed",
    RunVerdict.BROKEN: "Broken off",
    RunVerdict.OBSERVED: "Observed",
}
NONE = "&ndash;"
PRESSES_INTRO = (
    "How long after the button went down its lamp said “stored” and “delivered”, and dispatch had the record."
)


def write_report(run: RunReport, directory: Path) -> Path:
    """Write the page of a run into `directory`, which is made; a page of the same run is replaced.

    Returns:
        The file, named after title, rig and seed.

    Raises:
        OSError: it can not be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", run.title.lower()).strip("-")[:60] or "run"
    path = directory / f"{slug}-{run.rig}-{run.seed}.html"
    path.write_text(page(run), encoding="utf-8")
    return path


def page(run: RunReport) -> str:
    """The whole page."""
    sources = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    # A strict function around all scripts keeps their names out of the window's.
    script = f'(() => {{\n"use strict";\n{sources}\n}})();'
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'; img-src data:"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(f'{VERDICT_WORDS[run.verdict]}: {run.title}')}</title>",
            f"<style>\n{(ASSETS / 'page.css').read_text(encoding='utf-8')}</style></head><body>",
            _header(run),
            "<main>",
            _summary(run),
            (ASSETS / "charts.html").read_text(encoding="utf-8"),
            _expectations(run),
            _presses(run),
            _faults(run),
            _log(run),
            "</main>",
            _footer(run),
            f'<script type="application/json" id="run">{page_data(run)}</script>',
            f"<script>{script}</script></body></html>",
            "",
        ]
    )


def _header(run: RunReport) -> str:
    started = run.started_utc.replace("T", " ").replace("+00:00", " UTC")
    facts = [f"{run.rig} rig", f"seed {run.seed}", f"starts {started}", f"lasts {duration(run.duration_s)}"]
    if run.wall_s is not None:
        facts.append(f"ran in {duration(run.wall_s)}")
    return (
        f'<header><p class="verdict {run.verdict}">{VERDICT_WORDS[run.verdict]}</p>'
        f"<h1>{escape(run.title)}</h1>"
        f'<p class="why">{escape(run.why)}</p><ul class="facts">{_items(facts)}</ul></header>'
    )


def _summary(run: RunReport) -> str:
    told = "".join(
        f"<li><b>{escape(_sentence(row.text))}</b>{_bound(row)}: {_found(row.found)}</li>"
        for row in run.expectations
        if not row.held
    )
    tiles = "".join(
        f"<div><dt>{escape(one.label)}</dt><dd>{escape(one.value)}<small>{escape(one.note)}</small></dd></div>"
        for one in figures(run)
    )
    return (
        '<section aria-labelledby="summary"><h2 id="summary">In short</h2>'
        f'<p class="headline {run.verdict}">{escape(headline(run))}</p>'
        + (f'<ul class="missed-list">{told}</ul>' if told else "")
        + f'<ul class="story">{_items(sentences(run))}</ul>'
        + (f'<dl class="figures">{tiles}</dl>' if tiles else "")
        + "</section>"
    )


def _expectations(run: RunReport) -> str:
    if not run.expectations:
        return ""
    rows = "".join(
        f'<tr class="{"held" if row.held else "missed"}">'
        f'<td data-label="Held">{"✓ yes" if row.held else "✗ no"}</td>'
        f'<th scope="row" data-label="Expected"><span>{escape(_sentence(row.text))}'
        f"<small>{escape(row.meaning)}</small></span></th>"
        f'<td data-label="Bound">{escape(row.bound) or NONE}</td>'
        f'<td data-label="Found"><div>{_found(row.found)}</div></td></tr>'
        for row in sorted(run.expectations, key=lambda row: row.held)
    )
    return _table("expectations", "Expectations", ("Held", "Expected", "Bound", "Found"), rows)


def _presses(run: RunReport) -> str:
    if not run.presses:
        return ""
    keys = [press.key for press in run.presses]
    rows = "".join(
        f"<tr><td>{_jump(press.t_s)}</td>"
        f'<th scope="row">{escape(_sentence(in_words(press.key)))}'
        f"{'<small>said nothing new: no record</small>' if press.said_nothing_new else ''}</th>"
        f"<td>{_lamp(press.stored_after_s, press, keys[at + 1 :])}</td>"
        f"<td>{_lamp(press.delivered_after_s, press, keys[at + 1 :])}</td>"
        f"<td>{_record(press)}</td></tr>"
        for at, press in enumerate(run.presses)
    )
    columns = ("Pressed", "Button", "Stored", "Delivered", "Dispatch")
    return _table("presses", "Presses", columns, rows, PRESSES_INTRO)


def _lamp(after_s: float | None, press: PressMark, pressed_later: Sequence[str]) -> str:
    # A lamp speaks of its button's newest press only.
    if after_s is None and press.key in pressed_later:
        return "pressed again first"
    return NONE if after_s is None and press.said_nothing_new else _after(after_s)


def _record(press: PressMark) -> str:
    after_s = press.dispatched_after_s
    return NONE if after_s is None and press.said_nothing_new else _after(after_s)


def _faults(run: RunReport) -> str:
    if not run.faults:
        return ""
    rows = "".join(
        f'<tr><td data-label="From">{_jump(fault.from_s)}</td><td data-label="To">{_jump(fault.to_s)}</td>'
        f'<th scope="row" data-label="Fault">{escape(_sentence(in_words(fault.kind)))}</th>'
        f'<td data-label="What it does">{escape(fault.detail) or NONE}</td></tr>'
        for fault in run.faults
    )
    return _table("faults", "Faults", ("From", "To", "Fault", "What it does"), rows)


def _log(run: RunReport) -> str:
    if not run.log:
        return ""
    shown = run.log[-MOST_LOG_LINES:]
    left_out = f", the last {len(shown)} of {len(run.log)} lines" if len(shown) < len(run.log) else ""
    return (
        f"<details><summary>The daemon&rsquo;s log{left_out}</summary>"
        f'<pre tabindex="0">{escape(chr(10).join(shown))}</pre></details>'
    )


def _footer(run: RunReport) -> str:
    digest = f" Journal digest <code>{escape(run.digest)}</code>." if run.digest else ""
    return f"<footer><p>Everything on this page is in this one file.{digest}</p></footer>"


def _table(name: str, title: str, columns: Sequence[str], rows: str, intro: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    told = f'<p class="intro">{escape(intro)}</p>' if intro else ""
    table = f'<table class="{name}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    number = rows.count("<tr")
    if number > MOST_OPEN_ROWS:
        return f"<details><summary>{escape(title)}: {number}</summary>{told}{table}</details>"
    return (
        f'<section aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(title)}</h2>'
        f"{told}{table}</section>"
    )


def _items(texts: Sequence[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _found(text: str) -> str:
    """What was found; the rest of a long text opens on demand."""
    if len(text) <= MOST_FOUND:
        return escape(text)
    cut = text.rfind(" ", 0, MOST_FOUND)
    return f"{escape(text[:cut])} <details><summary>… all of it</summary>{escape(text)}</details>"


def _bound(row: ExpectationRow) -> str:
    return f" ({escape(row.bound)})" if row.bound else ""


def _jump(t_s: float) -> str:
    """A time that moves the marker of the charts there."""
    label = f"Show {clock(t_s)} on map and time lines"
    return f'<button class="jump" data-t="{t_s:.2f}" aria-label="{label}">{clock(t_s)}</button>'


def _after(seconds: float | None) -> str:
    return '<span class="never">never</span>' if seconds is None else escape(duration(seconds))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
