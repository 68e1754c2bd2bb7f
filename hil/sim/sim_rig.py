"""The simulated rig: the agent's own app on scripted devices, in time that costs nothing."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from agent.app.daemon import Daemon
from agent.app.devices import validate
from agent.app.patches import Patches
from agent.config import Broker as BrokerConfig
from agent.config import CanDevice, Config
from agent.domain.record import Stream
from agent.hal.can import CanFrame
from agent.hal.gnss import NmeaBytes
from agent.hal.samples import Sample as Reading
from agent.uplink.link.link import Message
from agent.wire.topics import Area, parse_topic
from firmware_shims.simulated.memory_button_box import MemoryButtonBox
from hil.dispatch import Dispatch
from hil.drive.items import ButtonItem, CanItem, NmeaItem, SampleItem, TimedItem
from hil.drive.player import Player, Sink
from hil.process.press_log import PressLog
from hil.process.store_counters import last_sequences
from hil.process.vehicle_config import AGENCY, UNIT, merged, sends_receipts
from hil.rig import Device, DiskTrouble, NetworkCondition, NotOnThisRigError, RigKind, Sample
from hil.sim.hurt_disk import HurtWorker
from hil.sim.manual_clock import ManualClock
from hil.sim.memory_broker import MemoryBroker, MemoryLink, Network
from hil.sim.sim_platform import SimPlatform

DEMO_VEHICLE = Path(__file__).resolve().parents[2] / "config" / "vehicles" / "demo_ambulance.toml"
SETTLE_S = 1.0
BUILT_BEFORE_MS = 100 * 86_400_000
"""The program is so much older than the drive."""
RESTART_AFTER_S = 0.5
"""systemd's RestartSec for the shipped unit is of this order."""


class SimRig:
    """One vehicle, one broker and dispatch on one VirtualLoop. Implements hil.rig.Rig.

    A power cut leaves the disk as it was at that instant: the next boot finds a copy of it. What the
    operating system had not yet written is the kernel rig's affair.

    Attributes:
        network: the vehicle's way to the broker, to be hurt.
        broker: in memory.
        box: the crew's button box; it keeps its power when the computer loses its own.
        platform: devices and clocks of the present boot.
        clock: the clocks of the present boot.
        daemon: the agent of the present boot, None while it is off.
        daemon_ends_s: loop times at which a daemon ended.
    """

    kind: RigKind = "sim"

    def __init__(
        self,
        directory: Path,
        *,
        unix_ms: int,
        seed: int = 1,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self._directory = directory
        self._unix_ms = unix_ms
        self._seed = seed
        self._overrides = overrides or {}
        self._starts = 0
        self.daemon_ends_s: list[float] = []
        self._boots = 0
        self._stores = 0
        self._boot_began_s: dict[str, float] = {}
        self._running: asyncio.Task[None] | None = None
        self._ending: list[asyncio.Task[None]] = []
        self._again: asyncio.Task[None] | None = None
        self._digest = hashlib.sha256()
        self._trouble: DiskTrouble | None = None
        self._unplugged: set[Device] = set()
        self._down: set[str] = set()
        self.network = Network(rng=random.Random(f"{seed}/network"))
        self.broker = MemoryBroker()
        self.broker.on_message = self._see
        direct = BrokerConfig(host="memory", port=1, allow_plaintext=True)
        self.dispatch = Dispatch(
            MemoryLink(self.broker, Network()), direct, receipts=sends_receipts(self._overrides)
        )
        self.box = MemoryButtonBox(random.Random(seed))
        self.presses = PressLog()
        self.platform: SimPlatform
        self.clock: ManualClock
        self.daemon: Daemon | None = None

    async def __aenter__(self) -> Self:
        self.box.start()
        self.dispatch.listen(self._look)
        await self.dispatch.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut_down()
        await self.dispatch.stop()
        self.box.stop()

    @property
    def starts(self) -> int:
        """How often the daemon was started."""
        return self._starts

    @property
    def digest(self) -> str:
        """SHA-256 over every journal message the broker took, in order: equal digests, equal journals."""
        return self._digest.hexdigest()

    @property
    def store_directory(self) -> Path:
        """Folder of the outbox, of the present boot."""
        return self._directory / ("store" if not self._stores else f"store-{self._stores}")

    def configuration(self) -> Config:
        """The vehicle's configuration: what is shipped, with this rig's devices."""
        return validate(self._table(), self._file)

    @property
    def _file(self) -> Path:
        return self._directory / "agent.toml"

    def _table(self) -> dict[str, Any]:
        base: dict[str, Any] = {
            "status_socket": str(self._directory / f"mdt-{self._starts}.sock"),
            "unit": {"agency": AGENCY, "unit": UNIT},
            "store": {"directory": str(self.store_directory)},
            "device": [
                {"kind": "gnss_serial", "device": "sim-gnss"},
                {"kind": "can_socketcan", "channel": "sim", "vehicle": str(DEMO_VEHICLE)},
                {"kind": "button_box", "device": "sim-box"},
            ],
            "uplink": {"brokers": [{"host": "memory", "port": 1, "allow_plaintext": True}]},
        }
        return merged(base, self._overrides)

    # ------------------------------------------------------------------ the computer

    async def boot(self) -> None:
        """Power on: a new boot with clocks of its own; the wall clock is wrong, as on a Pi."""
        loop = asyncio.get_running_loop()
        self._boots += 1
        boot_id = hashlib.sha256(f"{self._seed}/{self._boots}".encode()).hexdigest()[:32]
        # Without a battery the wall clock goes on from where it was when the power went.
        passed_ms = 0 if self._boots == 1 else self.clock.boottime_ns() // 1_000_000
        self._unix_ms += passed_ms
        self.clock = ManualClock.of_loop(boot_id, self._unix_ms)
        self._boot_began_s[boot_id] = loop.time()
        await self._start()

    async def shut_down(self) -> None:
        """The orderly stop, as when the ignition goes off."""
        if self._again is not None:
            await self._again
        if self.daemon is not None and self._running is not None:
            self.daemon.stop()
            await self._running
            self.daemon = self._running = None
            self.daemon_ends_s.append(asyncio.get_running_loop().time())
        ending, self._ending = self._ending, []
        await asyncio.gather(*ending)

    async def power_cut(self) -> None:
        """The power goes: whatever the daemon still does reaches nothing."""
        self._drop()

    async def kill(self) -> None:
        """The daemon is gone at once, the computer stays; a new one is started as systemd does."""
        self._drop()
        await asyncio.sleep(RESTART_AFTER_S)
        await self._start()

    def freeze(self) -> None:
        """Not here: there is no process. Raises NotOnThisRigError."""
        raise NotOnThisRigError("a simulated agent has no process to stop; use the process rig")

    def thaw(self) -> None:
        """See freeze."""
        self.freeze()

    def step_clock(self, by_ms: int) -> None:
        """Step the computer's wall clock."""
        self.clock.step(by_ms)

    def boots(self) -> dict[str, float]:
        """Boot id to the loop time at which its CLOCK_BOOTTIME was 0."""
        return dict(self._boot_began_s)

    async def _start(self) -> None:
        self._starts += 1
        disk = HurtWorker(self.store_directory)
        disk.trouble = self._trouble
        self.platform = SimPlatform(
            self.clock,
            self.broker,
            self.network,
            self.box,
            disk,
            seed=self._seed + self._starts,
            built_utc_ms=self._unix_ms - BUILT_BEFORE_MS,
        )
        own = self.configuration()
        patches = Patches(own, self._table(), self._file, validate, base="sim")
        configuration = patches.begin()
        for device in sorted(self._unplugged):
            if device != "buttons":
                self._feed(device, configuration).unplug()
        self.daemon = Daemon(configuration, self.platform, patches=patches)
        self._running = asyncio.get_running_loop().create_task(self._serve(self.daemon), name="sim-daemon")
        await asyncio.sleep(SETTLE_S)

    async def _serve(self, daemon: Daemon) -> None:
        """Run it, and the one after it when it was to start anew by command."""
        await daemon.run()
        if daemon.again and self.daemon is daemon:
            self.daemon_ends_s.append(asyncio.get_running_loop().time())
            self._again = asyncio.get_running_loop().create_task(self._start(), name="sim-restart")

    def _drop(self) -> None:
        """Cut the daemon off, and let it end by itself where nobody sees it."""
        if self.daemon is None or self._running is None:
            return
        before = self.store_directory
        self._stores += 1
        if before.exists():
            shutil.copytree(before, self.store_directory)
        self.platform.die()
        self.daemon.stop()
        self._ending.append(self._running)
        self.daemon_ends_s.append(asyncio.get_running_loop().time())
        self.daemon = self._running = None

    # ------------------------------------------------------------------ devices

    async def play(
        self,
        items: Iterable[TimedItem],
        *,
        until_ns: int | None = None,
        more_sinks: Mapping[type, Sink] | None = None,
    ) -> None:
        """Let the devices say what a drive has them say."""
        sinks: dict[type, Sink] = {
            NmeaItem: self._nmea,
            CanItem: self._can,
            ButtonItem: self._button,
            SampleItem: self._sample,
        }
        await Player(sinks | dict(more_sinks or {}), until_ns=until_ns).play(items)

    def say_nmea(self, data: bytes) -> None:
        """The receiver sends bytes."""
        self.platform.gnss.say(NmeaBytes(data, self.clock.boottime_ns()))

    def say_can(self, bus: str, can_id: int, *, extended: bool, data: bytes) -> None:
        """A frame is on the bus."""
        feed = self.platform.buses.get(bus)
        if feed is not None:
            feed.say(CanFrame(can_id, extended, data, self.clock.boottime_ns()))

    def press(self, key: str) -> None:
        """Push a button of the box down."""
        if key not in self._down:
            self._down.add(key)
            self.box.press(key)
            self.presses.pressed(key, asyncio.get_running_loop().time(), self.box.firmware)

    def release(self, key: str) -> None:
        """Let a button go."""
        if key in self._down:
            self._down.discard(key)
            self.box.release(key)
            self.presses.released(key, asyncio.get_running_loop().time())

    def unplug(self, device: Device) -> None:
        """Pull a device's cable."""
        self._unplugged.add(device)
        if device == "buttons":
            self.box.unplug()
        elif self.daemon is not None:
            self._feed(device, self.configuration()).unplug()

    def plug(self, device: Device) -> None:
        """Put it back."""
        self._unplugged.discard(device)
        if device == "buttons":
            self.box.plug()
        elif self.daemon is not None:
            self._feed(device, self.configuration()).plug_in()

    def restart_box(self) -> None:
        """Switch the button box off and on."""
        self.box.power_cycle()
        self._down.clear()

    def _feed(self, device: Device, configuration: Config) -> Any:
        if device == "gnss":
            return self.platform.gnss
        buses = [one.name for one in configuration.devices if isinstance(one, CanDevice)]
        return self.platform.bus(buses[0])

    # ------------------------------------------------------------------ network, broker, disk

    async def set_network(self, condition: NetworkCondition) -> None:
        """What the vehicle's way to the broker is like from now on."""
        self.network.set(
            cut=condition.cut,
            swallowing=condition.half_open,
            delay_s=condition.delay_s,
            jitter_s=condition.jitter_s,
            bytes_per_s=condition.bytes_per_s,
        )

    async def drop_connections(self) -> None:
        """End the vehicle's connections once."""
        self.network.drop_connections()

    async def stop_broker(self, *, unsaved: bool) -> None:
        """The broker stops, or dies with what it did not save."""
        if unsaved:
            self.broker.kill()
        else:
            self.broker.stop()

    async def start_broker(self) -> None:
        """The broker comes back."""
        self.broker.start()

    async def refuse(self, *, on: bool) -> None:
        """The broker says "not authorised" to the vehicle; dispatch stays where it is."""
        self.broker.refusing = on
        if on:
            self.network.drop_connections()

    def set_disk(self, trouble: DiskTrouble | None) -> None:
        """What the disk says to writes from now on."""
        self._trouble = trouble
        self.platform.disk.trouble = trouble

    # ------------------------------------------------------------------ looking

    async def sample(self) -> Sample:
        """How the agent is now."""
        now_s, daemon = asyncio.get_running_loop().time(), self.daemon
        if daemon is None:
            return Sample(now_s, None, None, None)
        connected = daemon.publisher.snapshot().connected
        return Sample(now_s, connected, daemon.outbox.backlog().records, None)

    def made(self) -> dict[Stream, int]:
        """Last sequence number of each stream on the disk."""
        return last_sequences(self.store_directory)

    async def wait_delivered(self, within_s: float) -> bool:
        """Let time pass until nothing waits; False when it ran out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while loop.time() < deadline:
            await asyncio.sleep(0.5)
            waiting = self.daemon is None or self.daemon.outbox.backlog().records
            if not waiting and not self.dispatch.reader.counts.holes_open:
                return True
        return False

    def _nmea(self, item: NmeaItem) -> None:
        self.say_nmea(item.data)

    def _can(self, item: CanItem) -> None:
        self.say_can(item.bus, item.can_id, extended=item.extended, data=item.data)

    def _sample(self, item: SampleItem) -> None:
        feed = self.platform.sensors.get(item.device)
        if feed is not None:
            feed.say(Reading(item.signal, item.value, item.unit, self.clock.boottime_ns()))

    def _button(self, item: ButtonItem) -> None:
        if item.pressed:
            self.press(item.key)
        else:
            self.release(item.key)

    def _look(self) -> None:
        self.presses.see(self.box.firmware, self.dispatch)

    def _see(self, message: Message) -> None:
        parsed = parse_topic(message.topic)
        if parsed is not None and parsed.area is Area.JOURNAL:
            self._digest.update(message.topic.encode() + b"\0" + message.payload + b"\0")
