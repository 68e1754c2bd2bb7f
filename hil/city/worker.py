"""Units lived through in steps, here or in a process of their own: the results are the same."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from hil.city.crew import Habits
from hil.city.hint_sweep import SweptHint
from hil.city.sim_unit import Happened, Pressed, SimUnit, Truth, configuration
from hil.city.world import World
from hil.sim.virtual_loop import VirtualLoop

_TURNS = 4
"""Of the event loop, for the tasks that wait for a press to be stored."""


class Order(NamedTuple):
    """A command of dispatch on its way to a unit."""

    unit: int
    name: str
    payload: bytes


class Told(NamedTuple):
    """A message of a unit, as the broker has it."""

    at_ns: int
    unit: int
    number: int
    topic: str
    payload: bytes
    packet_bytes: int
    retain: bool


@dataclass(slots=True)
class Step:
    """What became of some units in some seconds.

    Attributes:
        told: messages, in the order of each unit.
        truth: of each unit at the end, by its index.
        pressed: buttons that went down.
        happened: what became so.
        unheard: commands that reached nobody.
    """

    told: list[Told] = field(default_factory=list)
    truth: dict[int, Truth] = field(default_factory=dict)
    pressed: list[Pressed] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    unheard: list[Order] = field(default_factory=list)


@dataclass(slots=True)
class Sums:
    """What is known of some units once the day is over.

    Attributes:
        made: last sequence number of each unit and stream.
        lost_staged: records that power cuts took before they were on the disk, of each unit.
        dark: power cuts of each unit.
        sent_again: times that a unit sent records again because nobody had confirmed them.
        forgotten: presses that nobody made.
        waiting: records that are on a unit's disk and were not confirmed, of each unit.
        hints: of every radius and dwell time, where that was asked for.
    """

    made: dict[int, dict[str, int]] = field(default_factory=dict)
    lost_staged: dict[int, int] = field(default_factory=dict)
    dark: dict[int, int] = field(default_factory=dict)
    sent_again: dict[int, int] = field(default_factory=dict)
    forgotten: list[Happened] = field(default_factory=list)
    waiting: dict[int, int] = field(default_factory=dict)
    hints: list[SweptHint] = field(default_factory=list)


class Share:
    """Some of the units, in this process.

    Args:
        world: the city.
        indices: which units.
        places: the places file.
        habits: of all crews.
        overrides: over the configuration of every agent.
        sweep: whether hints are tried with many radii and dwell times.
    """

    def __init__(  # noqa: PLR0917  # handed over to a process as they are
        self,
        world: World,
        indices: Sequence[int],
        places: Path,
        habits: Habits,
        overrides: dict[str, Any] | None = None,
        sweep: bool = False,
    ) -> None:
        self._loop = VirtualLoop()
        self._units = {
            index: SimUnit(world, index, configuration(index, places, overrides), habits, sweep=sweep)
            for index in indices
        }
        self._numbers = dict.fromkeys(indices, 0)
        self._second = 0

    def step(self, until_s: int, orders: Sequence[Order]) -> Step:
        """Live up to a second, which is not lived any more."""
        return self._loop.run_until_complete(self._step(until_s, orders))

    async def _step(self, until_s: int, orders: Sequence[Order]) -> Step:
        step = Step()
        for order in orders:
            if order.unit in self._units and not self._units[order.unit].hear(
                order.name, order.payload, float(self._second)
            ):
                step.unheard.append(order)
        await self._turn()
        for second in range(self._second, until_s):
            for unit in self._units.values():
                if await unit.step(second):
                    await self._turn()
        self._second = until_s
        for index, unit in self._units.items():
            for sent in unit.sent():
                self._numbers[index] += 1
                step.told.append(
                    Told(
                        sent.at_ns,
                        index,
                        self._numbers[index],
                        sent.topic,
                        sent.payload,
                        sent.packet_bytes,
                        sent.retain,
                    )
                )
            step.truth[index] = unit.truth()
            step.pressed += unit.pressed
            step.happened += unit.happened
            unit.pressed, unit.happened = [], []
        return step

    def sums(self) -> Sums:
        """To be asked at the end."""
        sums = Sums()
        for index, unit in self._units.items():
            store = unit.light.store
            sums.made[index] = {stream.value: store.last_seq(stream) for stream in store.rows}
            sums.lost_staged[index] = unit.light.lost_staged
            sums.dark[index] = unit.crossed_dark
            sums.sent_again[index] = unit.light.sent_again
            sums.forgotten += unit.forgotten
            sums.hints += [] if unit.sweep is None else unit.sweep.hints
            sums.waiting[index] = sum(
                len(store.after(stream, store.confirmed(stream))) for stream in store.rows
            )
        return sums

    def close(self) -> None:
        """End the loop."""
        self._loop.close()

    async def _turn(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)


class ShareProcess:
    """The same in a process of its own. `begin` and `end` make a step, so that others work meanwhile."""

    def __init__(self, *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, args), daemon=True)
        self._process.start()
        other.close()

    def begin(self, until_s: int, orders: Sequence[Order]) -> None:
        """Start a step."""
        self._pipe.send((until_s, list(orders)))

    def end(self) -> Step:
        """Its result. Raises RuntimeError when the process failed."""
        return self._answer()  # type: ignore[no-any-return]

    def sums(self) -> Sums:
        """See Share.sums."""
        self._pipe.send("sums")
        return self._answer()  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process. Idempotent."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError as error:
            raise RuntimeError("a process of units ended without a word") from error
        if isinstance(answer, str):
            raise RuntimeError(f"a process of units failed: {answer}")  # noqa: TRY004  # it is what failed there
        return answer


class ShareHere:
    """A share on a thread of this process, which has a loop of its own, with the face of a `ShareProcess`."""

    def __init__(self, *args: Any) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="city-units")
        self._share = self._thread.submit(Share, *args).result()
        self._step: Future[Step] | None = None

    def begin(self, until_s: int, orders: Sequence[Order]) -> None:
        """Start a step."""
        self._step = self._thread.submit(self._share.step, until_s, orders)

    def end(self) -> Step:
        """Its result."""
        assert self._step is not None
        return self._step.result()

    def sums(self) -> Sums:
        """See Share.sums."""
        return self._thread.submit(self._share.sums).result()

    def close(self) -> None:
        """End it. Idempotent."""
        self._thread.submit(self._share.close).result()
        self._thread.shutdown()


def _serve(pipe: Connection, args: Any) -> None:
    logging.disable(logging.CRITICAL)
    # Most of what a unit makes is gone within the second: looking for circles of it is a tenth of the time.
    gc.set_threshold(100_000, 50, 50)
    share: Share | None = None
    try:
        share = Share(*args)
        while True:
            asked = pipe.recv()
            pipe.send(share.sums() if asked == "sums" else share.step(*asked))
    except (EOFError, ConnectionResetError, KeyboardInterrupt):
        pass  # the other end is done, or will be
    except Exception as error:  # noqa: BLE001  # told to whoever waits, who raises it
        import traceback

        pipe.send("".join(traceback.format_exception(error)))
    finally:
        if share is not None:
            share.close()
