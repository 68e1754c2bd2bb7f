"""The real daemon between PTYs and a real broker, behind a network that can be cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from agent.config import Broker as BrokerConfig
from agent.domain.record import Stream
from agent.uplink.link.paho_link import PahoLink
from agent.wire.topics import Topics
from firmware_shims.simulated.button_box import PtyButtonBox
from firmware_shims.simulated.nmea_receiver import PtyReceiver
from firmware_shims.simulated.slcan_adapter import PtySlcanAdapter
from firmware_shims.simulated.vcan_bus import VcanBus
from firmware_shims.system_clock import SystemClock
from hil.broker_process import Broker, BrokerOptions, open_broker
from hil.dispatch import Dispatch
from hil.drive.items import ButtonItem, CanItem, NmeaItem, TimedItem
from hil.drive.player import Player, Sink
from hil.process.agent_process import AgentProcess
from hil.process.press_log import PressLog
from hil.process.refusing_broker import RefusingBroker
from hil.process.store_counters import last_sequences
from hil.process.vehicle_config import AGENCY, UNIT, merged, sends_receipts, to_toml
from hil.rig import Device, DiskTrouble, NetworkCondition, NotOnThisRigError, RigKind, Sample
from hil.tcp_proxy import TcpProxy, Weather

DEMO_VEHICLE = Path(__file__).resolve().parents[2] / "config" / "vehicles" / "demo_ambulance.toml"
SETTLE_S = 0.05


class ProcessRig:
    """Used as `async with`; implements hil.rig.Rig. Everything listens on loopback and ends with the rig.

    Attributes:
        unit: which one it is.
        broker: the real broker.
        proxy: the network between agent and broker.
        agent: the daemon.
        dispatch: a consumer connected to the broker directly.
        receiver: the GNSS receiver.
        adapter: the SLCAN adapter, or the vcan interface.
        box: the button box.
        presses: every press, with when its lamp and dispatch told of it.
        daemon_ends_s: loop times at which a daemon ended, however it came.
    """

    kind: RigKind = "process"

    def __init__(
        self,
        directory: Path,
        *,
        overrides: Mapping[str, Any] | None = None,
        broker_options: BrokerOptions | None = None,
        seed: int = 1,
        vcan: str | None = None,
        receipts: bool | None = None,
        unit: str = UNIT,
        broker: Broker | None = None,
    ) -> None:
        """Store the arguments.

        With `broker`, which somebody else starts and stops, several vehicles speak to one dispatch.
        With `vcan` that SocketCAN interface is the bus, not an SLCAN adapter. `receipts` says whether the
        rig's own dispatch sends them; by default it does when the vehicle waits for some.
        """
        self._receipts = receipts
        self.directory = directory
        self._overrides = overrides or {}
        self.unit = Topics(AGENCY, unit)
        self._owns_broker = broker is None
        self.broker = open_broker(directory / "broker", broker_options) if broker is None else broker
        self.receiver = PtyReceiver(directory / "gnss0")
        self.adapter: PtySlcanAdapter | VcanBus = (
            PtySlcanAdapter(directory / "slcan0") if vcan is None else VcanBus(vcan)
        )
        self.box = PtyButtonBox(directory / "buttons0", random.Random(seed))
        self.config_file = directory / "agent.toml"
        self.agent = AgentProcess(self.config_file, directory / "agent.log", directory / "mdt.sock")
        self.presses = PressLog()
        self.daemon_ends_s = self.agent.ends_s
        self.proxy: TcpProxy
        self.dispatch: Dispatch
        self._refuser = RefusingBroker()
        self._down: set[str] = set()
        self._seed = seed

    @property
    def _sends_receipts(self) -> bool:
        return sends_receipts(self._overrides) if self._receipts is None else self._receipts

    def command(self, name: str, command_id: str, **fields: Any) -> None:
        """Dispatch tells the vehicle something."""
        self.dispatch.command(self.unit, name, command_id, **fields)

    @property
    def store_file(self) -> Path:
        """Folder of the outbox."""
        return self.directory / "store"

    async def __aenter__(self) -> Self:
        if self._owns_broker:
            await asyncio.to_thread(self.broker.start)
        self.proxy = TcpProxy(self.broker.host, self.broker.port, seed=self._seed)
        await self.proxy.start()
        self.config_file.write_text(to_toml(self.configuration()), encoding="utf-8")
        self.receiver.plug()
        self.adapter.plug()
        await self.box.start()
        direct = BrokerConfig(host=self.broker.host, port=self.broker.port, allow_plaintext=True)
        self.dispatch = Dispatch(PahoLink(), direct, receipts=self._sends_receipts, unit=self.unit)
        await self._refuser.start()
        self.dispatch.listen(lambda: self.presses.see(self.box.firmware, self.dispatch))
        await self.dispatch.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.agent.stop()
        await self.dispatch.stop()
        await self.box.stop()
        self.adapter.unplug()
        self.receiver.unplug()
        await self._refuser.stop()
        await self.proxy.stop()
        if self._owns_broker:
            await asyncio.to_thread(self.broker.stop)

    def configuration(self) -> dict[str, Any]:
        """The vehicle's configuration: the shipped format, with this rig's devices."""
        base: dict[str, Any] = {
            "status_socket": str(self.directory / "mdt.sock"),
            "unit": {"agency": self.unit.agency, "unit": self.unit.unit},
            # Drives are played several times as fast as life: in seconds of the drive it is about the shipped
            # group_commit_s. All other settings, but for devices and addresses, are as shipped.
            "store": {"directory": str(self.store_file), "group_commit_s": 2},
            # A drive may be of any year, and this computer's own time is not that of the drive.
            "clock": {"ntp": False, "not_before": "1980-01-06"},
            "device": [
                {"kind": "gnss_serial", "device": str(self.receiver.link), "baud": 9600},
                {**self._can_device(), "vehicle": str(DEMO_VEHICLE)},
                {"kind": "button_box", "device": str(self.box.link)},
            ],
            "uplink": {
                "brokers": [{"host": "127.0.0.1", "port": self.proxy.port, "allow_plaintext": True}],
            },
        }
        return merged(base, self._overrides)

    async def boot(self) -> None:
        """Start the daemon and wait until it answers."""
        await self.agent.start()
        await self.agent.wait_ready()

    async def play(
        self,
        items: Iterable[TimedItem],
        *,
        speed: float = 1.0,
        until_ns: int | None = None,
        more_sinks: Mapping[type, Sink] | None = None,
    ) -> None:
        """Let the devices say what a drive has them say."""
        sinks: dict[type, Sink] = {NmeaItem: self._nmea, CanItem: self._can, ButtonItem: self._button}
        sinks |= more_sinks or {}
        await Player(sinks, speed=speed, until_ns=until_ns).play(items)

    # ------------------------------------------------------------------ the computer

    @property
    def starts(self) -> int:
        """How often the daemon was started."""
        return self.agent.starts

    async def shut_down(self) -> None:
        """Stop the daemon in order. Idempotent."""
        await self.agent.stop()

    async def power_cut(self) -> None:
        """Not here: this computer's disk keeps what was written. Raises NotOnThisRigError."""
        raise NotOnThisRigError("a process has no power to cut; use the kernel rig, or sim")

    async def kill(self) -> None:
        """End the daemon at once, and wait until the one after it answers."""
        starts = self.agent.starts
        self.agent.kill()
        while self.agent.starts == starts:
            await asyncio.sleep(SETTLE_S)
        await self.agent.wait_ready()

    def freeze(self) -> None:
        """Stop the daemon's process from running."""
        self.agent.freeze()

    def thaw(self) -> None:
        """Let it run again."""
        self.agent.thaw()

    def step_clock(self, by_ms: int) -> None:
        """Not here: this computer's clock is not the rig's. Raises NotOnThisRigError."""
        raise NotOnThisRigError(f"no clock to step by {by_ms} ms; use the kernel rig, or sim")

    def boots(self) -> dict[str, float]:
        """This computer's boot id to the loop time of its CLOCK_BOOTTIME 0."""
        clock = SystemClock()
        return {clock.boot_id: asyncio.get_running_loop().time() - clock.boottime_ns() / 1e9}

    def _can_device(self) -> dict[str, str]:
        if isinstance(self.adapter, VcanBus):
            return {"kind": "can_socketcan", "channel": self.adapter.channel}
        return {"kind": "can_slcan", "device": str(self.adapter.link)}

    # ------------------------------------------------------------------ devices

    def say_nmea(self, data: bytes) -> None:
        """The receiver sends bytes."""
        self.receiver.send(data)

    def say_can(self, bus: str, can_id: int, *, extended: bool, data: bytes) -> None:
        """A frame is on the bus."""
        del bus
        self.adapter.send([(can_id, extended, data)])

    def press(self, key: str) -> None:
        """Push a button of the box down."""
        if key not in self._down:
            self._down.add(key)
            at_s = self.box.press(key)
            self.presses.pressed(key, at_s, self.box.firmware)

    def release(self, key: str) -> None:
        """Let a button go."""
        if key in self._down:
            self._down.discard(key)
            self.presses.released(key, self.box.release(key))

    def unplug(self, device: Device) -> None:
        """Pull a device's cable."""
        self._plug_of(device).unplug()

    def plug(self, device: Device) -> None:
        """Put it back."""
        self._plug_of(device).plug()

    def _plug_of(self, device: Device) -> PtyReceiver | PtySlcanAdapter | VcanBus | PtyButtonBox:
        if device == "gnss":
            return self.receiver
        return self.adapter if device == "can" else self.box

    def restart_box(self) -> None:
        """Switch the button box off and on."""
        self.box.power_cycle()
        self._down.clear()

    def _nmea(self, item: NmeaItem) -> None:
        self.say_nmea(item.data)

    def _can(self, item: CanItem) -> None:
        self.say_can(item.bus, item.can_id, extended=item.extended, data=item.data)

    def _button(self, item: ButtonItem) -> None:
        if item.pressed:
            self.press(item.key)
        else:
            self.release(item.key)

    # ------------------------------------------------------------------ network, broker, disk

    async def set_network(self, condition: NetworkCondition) -> None:
        """What the way to the broker is like from now on."""
        self.proxy.set_weather(
            Weather(
                delay_s=condition.delay_s,
                jitter_s=condition.jitter_s,
                bytes_per_s=condition.bytes_per_s,
                black_hole=condition.half_open,
            )
        )
        if condition.cut:
            await self.proxy.cut()
        else:
            await self.proxy.start()

    async def drop_connections(self) -> None:
        """End the vehicle's connections once."""
        await self.proxy.drop_connections()

    async def stop_broker(self, *, unsaved: bool) -> None:
        """The broker stops, or is killed."""
        await asyncio.to_thread(self.broker.kill if unsaved else self.broker.stop)

    async def start_broker(self) -> None:
        """The broker comes back on the same port and data."""
        await asyncio.to_thread(self.broker.start)

    async def refuse(self, *, on: bool) -> None:
        """The vehicle meets a broker that says "not authorised"; dispatch stays where it is."""
        there = self._refuser if on else self.broker
        self.proxy.redirect(there.host, there.port)
        if on:
            await self.proxy.drop_connections()

    def set_disk(self, trouble: DiskTrouble | None) -> None:
        """A full disk only, by a limit on the daemon's files. Raises NotOnThisRigError for the others."""
        if trouble not in (None, "full"):
            raise NotOnThisRigError(f"a disk that is {trouble} needs the kernel rig, or sim")
        self.agent.limit_file_size(on=trouble is not None)

    # ------------------------------------------------------------------ looking

    @property
    def agent_log(self) -> str:
        """The end of the daemon's log."""
        return self.agent.log_tail(20_000)

    async def sample(self) -> Sample:
        """How the daemon is now, by its own status socket."""
        now_s = asyncio.get_running_loop().time()
        status, outbox = await self.agent.status(), await self.agent.outbox()
        waiting = None
        if outbox is not None:
            streams = outbox["streams"].values()
            waiting = sum(one["last_seq"] - one["confirmed_seq"] for one in streams)
            waiting += outbox["not_yet_on_disk_records"]
        connected = None if status is None else bool(status["link"]["connected"])
        return Sample(now_s, connected, waiting, self.agent.memory_kib)

    def made(self) -> dict[Stream, int]:
        """Last sequence number of each stream on the disk."""
        return last_sequences(self.store_file)

    async def wait_delivered(self, within_s: float) -> bool:
        """Wait until nothing waits in the outbox and dispatch has all of it; False when time ran out."""
        try:
            async with asyncio.timeout(within_s):
                while not await self._all_delivered():
                    await asyncio.sleep(SETTLE_S)
        except TimeoutError:
            return False
        return True

    async def _all_delivered(self) -> bool:
        report = await self.agent.outbox()
        if report is None or report["not_yet_on_disk_records"]:
            return False
        return (
            all(stream["last_seq"] == stream["confirmed_seq"] for stream in report["streams"].values())
            and not self.dispatch.reader.counts.holes_open
        )
