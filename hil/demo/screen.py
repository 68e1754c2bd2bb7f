"""The terminal during a demo: what dispatch sees now, and below it what happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.domain.fix import FixMode
from agent.domain.record import CallRecord, Emergency, Health, StatusChange
from agent.domain.state import HealthState, LinkState, LocationState, StatusState, VehicleState
from agent.domain.steady_health import told_reasons
from agent.runtime.plain_text import counted, harmless, how_often
from hil.demo.summary import Summary
from hil.demo.vehicle import DemoVehicle

_STATUS_COLOURS = {
    "available": "green",
    "en_route": "yellow",
    "on_scene": "red",
    "transporting": "magenta",
    "at_destination": "cyan",
}
_EVENTS_SHOWN = 8
_LINE_EVERY_S = 5.0


class Screen:
    """Draws a live panel on a terminal; on anything else it prints lines now and then."""

    def __init__(self, console: Console, vehicles: Sequence[DemoVehicle]) -> None:
        self._console = console
        self._first, *self._others = vehicles
        self._dispatch = self._first.rig.dispatch
        self._events: deque[Text] = deque(maxlen=_EVENTS_SHOWN)
        self._arrivals_seen = 0
        self._live = (
            Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None
        )
        self._next_line_s = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, text: str, style: str = "dim") -> None:
        """Something happened in the world of the demo."""
        line = Text(harmless(f"{self._first.clock_text()}  {text}"), style=style)
        self._events.append(line)
        if self._live is None:
            self._console.print(line)

    def refresh(self, now_s: float) -> None:
        """Draw again."""
        self._take_arrivals()
        if self._live is not None:
            self._live.update(self._panel())
        elif now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            cells = "  ".join(f"{name} {value.plain}" for name, value in self._cells())
            self._console.print(Text(f"{self._first.clock_text()}  {cells}"), soft_wrap=True)

    def _take_arrivals(self) -> None:
        arrivals = self._dispatch.arrivals[self._arrivals_seen :]
        self._arrivals_seen += len(arrivals)
        for arrival in arrivals:
            match arrival.record.body:
                case StatusChange(status=status):
                    colour = _STATUS_COLOURS.get(status, "white")
                    self.tell(
                        f"dispatch has status  {status}   (events #{arrival.record.seq})", f"bold {colour}"
                    )
                case CallRecord(step=step, incident=incident):
                    self.tell(f"call {incident} {step}", "bold")
                case Emergency(active=active):
                    self.tell("EMERGENCY raised" if active else "emergency cancelled", "bold white on red")
                case Health(raised=raised, cleared=cleared):
                    words = [f"+{reason}" for reason in raised] + [f"-{reason}" for reason in cleared]
                    self.tell(f"health {' '.join(words)}", "yellow")
                case _:
                    pass

    def _panel(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        for name, value in self._cells():
            table.add_row(Text(name, style="dim"), value)
        title = f"what dispatch sees   {self._first.clock_text()}"
        return Panel(
            Group(table, Text(""), *self._events), title=title, title_align="left", border_style="blue"
        )

    def _cells(self) -> list[tuple[str, Text]]:
        states = self._dispatch.states
        location, status, link = states.get("location"), states.get("status"), states.get("link")
        health, vehicle = states.get("health"), states.get("vehicle")
        return [
            ("unit", Text("boston-ems/A1", style="bold")),
            ("status", _status_text(status if isinstance(status, StatusState) else None)),
            ("position", _position_text(location if isinstance(location, LocationState) else None)),
            ("speed", _speed_text(location if isinstance(location, LocationState) else None)),
            ("link", self._link_text(link if isinstance(link, LinkState) else None)),
            (
                "backlog",
                Text(
                    counted(self._first.backlog, "record"), style="yellow" if self._first.backlog > 20 else ""
                ),
            ),
            ("vehicle", _vehicle_text(vehicle if isinstance(vehicle, VehicleState) else None)),
            ("health", _health_text(health if isinstance(health, HealthState) else None)),
            *((one.rig.unit.unit, _short_text(one)) for one in self._others),
        ]

    def _link_text(self, link: LinkState | None) -> Text:
        if link is None:
            return Text("never seen")
        text = Text("online", style="green") if link.online else Text("offline", style="bold red")
        if not self._first.covered:
            told = ", not known to dispatch yet" if link.online else ""
            text.append(f"   no coverage{told}", style="bold red")
        return text


def _short_text(vehicle: DemoVehicle) -> Text:
    """Another vehicle in a few words."""
    states = vehicle.rig.dispatch.states
    status, link = states.get("status"), states.get("link")
    text = _status_text(status if isinstance(status, StatusState) else None)
    if not vehicle.covered:
        text.append("   no coverage", style="bold red")
    elif not (isinstance(link, LinkState) and link.online):
        text.append("   offline", style="red")
    return text


def _status_text(status: StatusState | None) -> Text:
    if status is None or status.status is None:
        return Text("-")
    text = Text(harmless(status.status), style=f"bold {_STATUS_COLOURS.get(status.status, 'white')}")
    if status.emergency:
        text.append("  EMERGENCY", style="bold white on red")
    return text


def _position_text(location: LocationState | None) -> Text:
    if location is None:
        return Text("-")
    position = location.position
    if position is not None and location.mode is FixMode.NONE:
        return Text(f"no fix   by the wheels {position.lat_deg:.5f} {position.lon_deg:.5f}", style="yellow")
    if position is not None:
        return Text(
            f"{position.lat_deg:.5f} {position.lon_deg:.5f}   {position.satellites or '-'} satellites"
        )
    last = location.last_known
    where = "" if last is None else f"   last known {last.lat_deg:.5f} {last.lon_deg:.5f}"
    return Text(f"no fix{where}", style="red")


def _speed_text(location: LocationState | None) -> Text:
    if location is None or location.mode is FixMode.NONE or location.position is None:
        return Text("-")
    speed = location.position.speed_mps
    return Text("-" if speed is None else f"{speed * 3.6:5.1f} km/h")


def _vehicle_text(vehicle: VehicleState | None) -> Text:
    if vehicle is None:
        return Text("-")
    signals = dict(vehicle.signals)
    shown = [("Speed", "{} km/h"), ("Powertrain.FuelSystem.RelativeLevel", "fuel {} %")]
    shown += [("LowVoltageBattery.CurrentVoltage", "{} V"), ("LowVoltageSystemState", "ignition {}")]
    words = "  ".join(form.format(signals[name]) for name, form in shown if signals.get(name) is not None)
    return Text(harmless(words))


def _health_text(health: HealthState | None) -> Text:
    if health is None:
        return Text("-")
    return Text(
        harmless(", ".join(told_reasons(health))) or "well", style="yellow" if health.reasons else "green"
    )


def print_summary(console: Console, summary: Summary, *, named: bool = False) -> None:
    """What a vehicle's drive came to, for a person."""
    table = Table(
        title=f"summary of {summary.unit}" if named else "summary", show_header=False, title_justify="left"
    )
    bad = "bold red"
    table.add_row("records made", str(summary.records_made))
    table.add_row("records received", str(summary.records_received))
    table.add_row("lost", Text(str(summary.lost), style=bad if summary.lost else "bold green"))
    table.add_row(
        "duplicated",
        Text(
            f"{summary.duplicates} (after removing {summary.redelivered} sent again)",
            style=bad if summary.duplicates else "bold green",
        ),
    )
    in_order = summary.statuses == summary.statuses_pressed
    table.add_row("positions", str(summary.positions))
    table.add_row(
        "statuses", Text(harmless(" > ".join(summary.statuses)) or "-", style="" if in_order else bad)
    )
    if not in_order:
        table.add_row("pressed", Text(harmless(" > ".join(summary.statuses_pressed))))
    if summary.stored_at_dispatch is not None:
        table.add_row("on dispatch's disk", str(summary.stored_at_dispatch))
    table.add_row("lamps green", f"{counted(summary.lamps_delivered, 'press')}, by dispatch's receipt")
    table.add_row("without coverage", f"{summary.outage_s} s")
    for name, values in (
        ("press to stored", summary.press_to_stored_ms),
        ("press to dispatch", summary.press_to_dispatch_ms),
        ("  with coverage", summary.press_to_dispatch_covered_ms),
    ):
        table.add_row(name, f"p50 {values.p50} ms, p99 {values.p99} ms")
    if summary.daemon_starts > 1:
        table.add_row("daemon started", how_often(summary.daemon_starts))
    spoken = {5: "MQTT 5", 4: "MQTT 3.1.1"}.get(summary.mqtt_version or 0, "MQTT")
    table.add_row("broker", f"{summary.broker}, {spoken}")
    console.print(table)


def print_verdict(console: Console, *, good: bool) -> None:
    """The last line."""
    if good:
        console.print(
            Text("Everything that was stored reached dispatch, once and in order.", style="bold green")
        )
    else:
        console.print(Text("NOT everything reached dispatch as it should.", style="bold red"))
