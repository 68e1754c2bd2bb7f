"""Faults of the devices: receiver, vehicle bus, buttons."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field

from hil.drive.nmea_writer import sentence
from hil.rig import Device
from hil.scenario.fault import Fault, Site
from hil.scenario.wiring import NmeaFilter

ROLLOVER = timedelta(weeks=1024)
METRES_PER_MINUTE = 1852.0
"""A minute of latitude is a nautical mile."""
FLOOD_TICK_S = 0.05
_STANDARD_IDS, _EXTENDED_IDS = 0x800, 0x2000_0000


class _NmeaFault(Fault):
    """Stands between the receiver and its line."""

    def becomes(self, site: Site) -> NmeaFilter:
        """What is sent instead."""
        raise NotImplementedError

    async def apply(self, site: Site) -> None:
        """Put the filter in."""
        site.notes["filter"] = self.becomes(site)
        site.wiring.nmea.append(site.notes["filter"])

    async def lift(self, site: Site) -> None:
        """Take it out."""
        site.wiring.nmea.remove(site.notes["filter"])


class GnssSilent(_NmeaFault):
    """The receiver says nothing."""

    takes_fix = True
    kind: Literal["gnss_silent"]

    def becomes(self, site: Site) -> NmeaFilter:
        """Nothing."""
        del site
        return lambda _: b""


class GnssGarbage(_NmeaFault):
    """A `share` of the receiver's bytes is replaced by random ones."""

    kind: Literal["gnss_garbage"]
    share: float = Field(0.2, gt=0, le=1)

    def becomes(self, site: Site) -> NmeaFilter:
        """Garbage."""
        rng = site.rng

        def garble(data: bytes) -> bytes:
            return bytes(rng.randrange(256) if rng.random() < self.share else byte for byte in data)

        return garble


class GnssFrozen(_NmeaFault):
    """The receiver sends its last epoch again and again, time and all."""

    takes_fix = True
    kind: Literal["gnss_frozen"]

    def becomes(self, site: Site) -> NmeaFilter:
        """The first sentence of each type that came since."""
        del site
        kept: dict[bytes, bytes] = {}
        return lambda data: kept.setdefault(data[:6], data)


class GnssStuck(_NmeaFault):
    """The receiver's time and speed go on, and its place stays to the last digit."""

    kind: Literal["gnss_stuck"]

    def becomes(self, site: Site) -> NmeaFilter:
        """With the first place that there was."""
        del site
        kept: list[list[str]] = []

        def stick(data: bytes) -> bytes:
            fields = data.partition(b"*")[0].removeprefix(b"$").decode("ascii", "replace").split(",")
            where = {"GNRMC": 3, "GNGGA": 2}.get(fields[0])
            if where is None or not fields[where]:
                return data
            if not kept:
                kept.append(fields[where : where + 4])
            fields[where : where + 4] = kept[0]
            return sentence(",".join(fields))

        return stick


class GnssJumping(_NmeaFault):
    """Every `every`-th epoch lies `metres` further north, with a good checksum and a good fix."""

    takes_fix = True
    kind: Literal["gnss_jumping"]
    metres: float = Field(5000, gt=0, le=50_000)
    every: int = Field(3, ge=1)

    def becomes(self, site: Site) -> NmeaFilter:
        """Moved."""
        del site
        epochs: list[bytes] = []

        def jump(data: bytes) -> bytes:
            fields = data.partition(b"*")[0].removeprefix(b"$").decode("ascii", "replace").split(",")
            where = {"GNRMC": 3, "GNGGA": 2}.get(fields[0])
            if where is None or not fields[where]:
                return data
            if fields[1].encode() not in epochs[-1:]:
                epochs.append(fields[1].encode())
            if len(epochs) % self.every:
                return data
            minutes = float(fields[where][2:]) + self.metres / METRES_PER_MINUTE
            degrees = int(fields[where][:2]) + int(minutes // 60)
            fields[where] = f"{degrees:02d}{minutes % 60:08.5f}"
            return sentence(",".join(fields))

        return jump


class GnssRollover(_NmeaFault):
    """The receiver's week counter rolls over: its date is 1024 weeks in the past."""

    kind: Literal["gnss_rollover"]

    def becomes(self, site: Site) -> NmeaFilter:
        """An old date."""
        del site
        return lambda data: _with_other_date(data, -ROLLOVER)


class GnssWrongDate(_NmeaFault):
    """Every `every`-th epoch has a date that is `days` off."""

    kind: Literal["gnss_wrong_date"]
    days: int = 365
    every: int = Field(7, ge=2)

    def becomes(self, site: Site) -> NmeaFilter:
        """A wrong date now and then."""
        del site
        epochs: list[bytes] = []

        def err(data: bytes) -> bytes:
            if data.startswith(b"$GNRMC"):
                epochs.append(data)
            return _with_other_date(data, timedelta(self.days)) if not len(epochs) % self.every else data

        return err


def _with_other_date(data: bytes, by: timedelta) -> bytes:
    fields = data.partition(b"*")[0].removeprefix(b"$").decode("ascii", "replace").split(",")
    if fields[0] != "GNRMC" or not fields[9]:
        return data
    date = datetime.strptime(fields[9], "%d%m%y").replace(tzinfo=UTC) + by
    fields[9] = f"{date:%d%m%y}"
    return sentence(",".join(fields))


class _Unplugged(Fault):
    def device(self) -> Device:
        """Whose cable."""
        raise NotImplementedError

    async def apply(self, site: Site) -> None:
        """Pull the cable."""
        site.rig.unplug(self.device())

    async def lift(self, site: Site) -> None:
        """Put it back."""
        site.rig.plug(self.device())


class GnssUnplugged(_Unplugged):
    """The receiver's cable is out."""

    takes_fix = True
    kind: Literal["gnss_unplugged"]

    def device(self) -> Device:
        """The receiver's."""
        return "gnss"


class CanBusOff(_Unplugged):
    """The CAN adapter is gone from the bus, as after bus-off or with its cable out."""

    kind: Literal["can_bus_off"]

    def device(self) -> Device:
        """The adapter's."""
        return "can"


class ButtonsUnplugged(_Unplugged):
    """The button box's cable is out; the box keeps its power and what was pressed."""

    kind: Literal["buttons_unplugged"]

    def device(self) -> Device:
        """The box's."""
        return "buttons"


class CanSilent(Fault):
    """The bus says nothing."""

    kind: Literal["can_silent"]

    async def apply(self, site: Site) -> None:
        """Mute it."""
        site.wiring.can_silent += 1

    async def lift(self, site: Site) -> None:
        """Let it speak."""
        site.wiring.can_silent -= 1


class CanFlood(Fault):
    """`frames_per_s` frames that nobody asked for, beside the bus's own."""

    kind: Literal["can_flood"]
    bus: str = "can0"
    frames_per_s: float = Field(2000, gt=0, le=10_000)

    async def apply(self, site: Site) -> None:
        """Open the tap."""
        site.run(self._flood(site), "can-flood")

    def frame(self, site: Site) -> tuple[int, bool, bytes]:
        """The next frame: identifier, extended, data."""
        return site.rng.randrange(_STANDARD_IDS), False, site.rng.randbytes(8)

    async def _flood(self, site: Site) -> None:
        owed = 0.0
        while True:
            owed += self.frames_per_s * FLOOD_TICK_S
            while owed >= 1:
                owed -= 1
                can_id, extended, data = self.frame(site)
                site.rig.say_can(self.bus, can_id, extended=extended, data=data)
            await asyncio.sleep(FLOOD_TICK_S)


class CanHostile(CanFlood):
    """Frames made to hurt: the bus's own identifiers with wrong lengths and random bytes, and any others."""

    kind: Literal["can_hostile"]  # type: ignore[assignment]  # a kind of its own, with the same settings
    frames_per_s: float = Field(200, gt=0, le=10_000)
    known_ids: tuple[int, ...] = (288, 320, 352, 800, 928, 1056)
    """Those of the demo vehicle."""

    def frame(self, site: Site) -> tuple[int, bool, bytes]:
        """Half of them where the agent listens, with 0 to 8 bytes, or "not available" throughout."""
        rng = site.rng
        extended = rng.random() < 0.2
        can_id = rng.randrange(_EXTENDED_IDS if extended else _STANDARD_IDS)
        if not extended and rng.random() < 0.5:
            can_id = rng.choice(self.known_ids)
        length = rng.randrange(9)
        return can_id, extended, b"\xff" * length if rng.random() < 0.3 else rng.randbytes(length)


class CanFrames(Fault):
    """A frame of a script on the bus, again and again for `for_s`: what a vehicle says in an accident.

    With `silent` the bus says nothing else meanwhile.
    """

    kind: Literal["can_frames"]
    bus: str = "can0"
    can_id: int = Field(ge=0, lt=_EXTENDED_IDS)
    data: str = Field(pattern=r"^([0-9A-Fa-f]{2}){0,8}$")
    extended: bool = False
    every_s: float = Field(0.05, gt=0, le=60)
    silent: bool = False

    async def apply(self, site: Site) -> None:
        """Begin."""
        site.wiring.can_silent += self.silent
        site.run(self._say(site), f"can-frames-{self.can_id:x}")

    async def lift(self, site: Site) -> None:
        """It is over."""
        site.wiring.can_silent -= self.silent

    async def _say(self, site: Site) -> None:
        data = bytes.fromhex(self.data)
        while True:
            site.rig.say_can(self.bus, self.can_id, extended=self.extended, data=data)
            await asyncio.sleep(self.every_s)


class ButtonBounce(Fault):
    """A worn button: `times` presses in a row, `spacing_ms` apart."""

    kind: Literal["button_bounce"]
    key: str
    times: int = Field(6, ge=2, le=100)
    spacing_ms: float = Field(30, gt=0)

    async def apply(self, site: Site) -> None:
        """Press and release."""
        for _ in range(self.times):
            site.rig.press(self.key)
            await asyncio.sleep(self.spacing_ms / 2000)
            site.rig.release(self.key)
            await asyncio.sleep(self.spacing_ms / 2000)

    async def lift(self, site: Site) -> None:
        """It is over already."""


class ButtonStuck(Fault):
    """A button is held down for `for_s`."""

    kind: Literal["button_stuck"]
    key: str

    async def apply(self, site: Site) -> None:
        """Down."""
        site.wiring.held.add(self.key)
        site.rig.press(self.key)

    async def lift(self, site: Site) -> None:
        """Up."""
        site.wiring.held.discard(self.key)
        site.rig.release(self.key)


class ButtonBoxRestart(Fault):
    """The button box is switched off and on, and forgets everything."""

    kind: Literal["button_box_restart"]

    async def apply(self, site: Site) -> None:
        """Off and on."""
        site.rig.restart_box()

    async def lift(self, site: Site) -> None:
        """It is on already."""
