"""The city live: units at many times the speed of life, a real broker, and the service with its page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

from agent.config import Broker as BrokerSettings
from agent.domain.fix import FixMode
from agent.domain.picture import extrapolated
from agent.domain.record import Position
from agent.uplink.link.link import Closed, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from agent.wire.topics import ROOT, parse_topic
from hil.broker_process import BrokerOptions, open_broker
from hil.city.day import Options
from hil.city.dispatcher import DECIDES_AFTER_S, FREE_STATUSES, Metres
from hil.city.sim_unit import AGENCY
from hil.city.streets import Point, Streets
from hil.city.worker import Order, ShareProcess, Told
from hil.city.world import Call, World, draw_world
from hil.dispatch_process import DispatchProcess

STEP_S = 3
FASTEST = 120.0


async def run_live(
    options: Options,
    *,
    speed: float,
    for_s: float | None,
    listen: str | None,
    say: Callable[[str], None],
) -> int:
    """Live on until the day is over, or so many seconds of this world have passed.

    Returns how many calls got a unit.

    Raises:
        BrokerUnavailableError, BrokerStartError: there is no broker.
        RuntimeError: the service did not start, or a process of units failed.
        OSError, ValueError: the streets can not be read.
    """
    streets = Streets.load(*options.streets) if options.streets else Streets.made_up(options.seed)
    world = draw_world(
        streets, units=options.units, calls=options.calls, hours=options.hours, seed=options.seed
    )
    with tempfile.TemporaryDirectory(prefix="city-live-") as name:
        folder = Path(name)
        places, drawn = folder / "places.geojson", folder / "streets.geojson"
        await asyncio.to_thread(places.write_text, json.dumps(world.places()), encoding="utf-8")
        await asyncio.to_thread(drawn.write_text, json.dumps(streets.geojson()), encoding="utf-8")
        broker = open_broker(folder, BrokerOptions())
        await asyncio.to_thread(broker.start)
        wanted = ["--simulated-time", "--streets", str(drawn), "--agency", AGENCY]
        wanted += [] if listen is None else ["--listen", listen]
        service = DispatchProcess(folder / "dispatch", f"mqtt://127.0.0.1:{broker.port}", options=wanted)
        share = ShareProcess(world, range(options.units), places, options.habits, dict(options.agent))
        try:
            await asyncio.to_thread(service.start)
            say(f"dispatch's page: {service.page}")
            say(f"{options.units} units at {speed:g} times the speed of life, on {broker.kind}")
            return await _City(world, share, service, broker.port, speed, say).live(for_s)
        finally:
            share.close()
            await asyncio.to_thread(service.stop)
            await asyncio.to_thread(broker.stop)


class _City:
    """Carries what units say to the broker, and what dispatch says to units; and plays the dispatcher."""

    def __init__(  # noqa: PLR0917  # the parts that it stands between
        self,
        world: World,
        share: ShareProcess,
        service: DispatchProcess,
        port: int,
        speed: float,
        say: Callable[[str], None],
    ) -> None:
        self._world = world
        self._share = share
        self._service = service
        self._broker = BrokerSettings(host="127.0.0.1", port=port, allow_plaintext=True)
        self._speed = speed
        self._say = say
        self._link = PahoLink()
        self._open = asyncio.Event()
        self._orders: list[Order] = []
        rng = random.Random(f"{world.seed}/dispatcher")
        self._calls = [(call.at_s + rng.uniform(*DECIDES_AFTER_S), call) for call in world.calls]
        self._sent = 0

    async def live(self, for_s: float | None) -> int:
        """Step by step, in time with the clock on the wall."""
        loop = asyncio.get_running_loop()
        self._connect()
        async with asyncio.timeout(20):
            await self._open.wait()
        began_s = loop.time()
        try:
            for now_s in range(STEP_S, self._world.duration_s + STEP_S, STEP_S):
                if for_s is not None and loop.time() - began_s > for_s:
                    break
                orders, self._orders = self._orders, []
                self._share.begin(now_s, orders)
                step = await asyncio.to_thread(self._share.end)
                await self._publish(step.told, now_s, began_s)
                await self._dispatch(now_s)
        finally:
            await self._link.close()
        return self._sent

    async def _publish(self, told: Sequence[Told], now_s: int, began_s: float) -> None:
        """Each message at its own moment."""
        loop = asyncio.get_running_loop()
        for one in sorted(told, key=lambda one: (one.at_ns, one.unit, one.number)):
            wait_s = began_s + one.at_ns / 1e9 / self._speed - loop.time()
            if wait_s > 0.005:
                await asyncio.sleep(wait_s)
            self._link.publish(Message(one.topic, one.payload, retain=one.retain))
        await asyncio.sleep(max(0.0, began_s + now_s / self._speed - loop.time()))

    # ------------------------------------------------------------------ the dispatcher

    async def _dispatch(self, now_s: int) -> None:
        due = [one for one in self._calls if one[0] <= now_s]
        if not due:
            return
        try:
            units = await asyncio.to_thread(self._service.ask, "/api/v1/units")
            for one in due:
                chosen = self._nearest(one[1], units)
                if chosen is None:
                    return
                self._calls.remove(one)
                await asyncio.to_thread(self._assign, one[1], chosen["unit"])
                units.remove(chosen)
                self._sent += 1
                self._say(f"{_clock(now_s)}  {one[1].incident} priority {one[1].priority}: {chosen['unit']}")
        except URLError as error:
            self._say(f"dispatch does not answer: {error.reason}")

    def _nearest(self, call: Call, units: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        metres = Metres(self._world.streets, call.node)
        free = [
            (metres(point), one["unit"], one)
            for one in units
            if one["online"]
            and one["status"] in FREE_STATUSES
            and not one["call"]
            and (point := self._drawn(one)) is not None
        ]
        return min(free, key=lambda one: one[:2])[2] if free else None

    def _drawn(self, unit: dict[str, Any]) -> Point | None:
        position = unit["position"]
        if position is None:
            return None
        told = Position(
            position["lat_deg"],
            position["lon_deg"],
            None,
            position["speed_mps"],
            position["course_deg"],
            FixMode.FIX_3D,
            None,
            None,
        )
        # Answers take a moment of this world, which is many of theirs: as the page would draw it by now.
        return self._world.streets.point_at(*extrapolated(told, 0.0))

    def _assign(self, call: Call, unit: str) -> None:
        lat_deg, lon_deg = self._world.streets.lat_lon(self._world.streets.points[call.node])
        fields = {
            "incident": call.incident,
            "priority": call.priority,
            "response_mode": "none" if call.priority == "3" else "lights_and_siren",
            "lat_deg": round(lat_deg, 6),
            "lon_deg": round(lon_deg, 6),
            "destination": self._world.nearest_hospital(call.node).id,
        }
        self._service.ask(f"/api/v1/units/{AGENCY}/{unit}/assign", fields)

    # ------------------------------------------------------------------ the broker

    def _connect(self) -> None:
        opening = Opening(
            broker=self._broker,
            client_id=f"city-{random.getrandbits(32):08x}",
            keepalive_s=20,
            connect_timeout_s=10,
            subscriptions=(f"{ROOT}/{AGENCY}/+/command/+",),
        )
        self._link.open(opening, self._on_event)

    def _on_event(self, event: LinkEvent) -> None:
        match event:
            case Opened():
                self._open.set()
            case Closed(reason=reason, detail=detail):
                if reason:
                    self._say(f"the broker is gone: {detail}")
            case Received():
                parsed = parse_topic(event.topic)
                if parsed is not None:
                    with contextlib.suppress(ValueError):
                        index = int(parsed.topics.unit[1:]) - 1
                        self._orders.append(Order(index, parsed.name, event.payload))
            case _:
                pass


def _clock(now_s: int) -> str:
    return f"{(6 + now_s // 3600) % 24:02d}:{now_s // 60 % 60:02d}"
