"""Faults between the vehicle and dispatch: network and broker."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import Field

from hil.rig import CLEAR, NetworkCondition
from hil.scenario.fault import Fault, Site


class _NetworkFault(Fault):
    def condition(self) -> NetworkCondition:
        """What the network is like while it lasts."""
        raise NotImplementedError

    async def apply(self, site: Site) -> None:
        """The network becomes worse."""
        await site.rig.set_network(self.condition())

    async def lift(self, site: Site) -> None:
        """The network is well again."""
        await site.end_tasks()
        await site.rig.set_network(CLEAR)


class NetworkCut(_NetworkFault):
    """Connections are reset, new ones refused."""

    cuts_off = True
    kind: Literal["network_cut"]

    def condition(self) -> NetworkCondition:
        """Gone."""
        return NetworkCondition(cut=True)


class NetworkHalfOpen(_NetworkFault):
    """Packets vanish in both directions and nobody is told."""

    cuts_off = True
    kind: Literal["network_half_open"]

    def condition(self) -> NetworkCondition:
        """A black hole."""
        return NetworkCondition(half_open=True)


class NetworkSlow(_NetworkFault):
    """A long and narrow way: `delay_s` one way, `bytes_per_s` of bandwidth."""

    kind: Literal["network_slow"]
    delay_s: float = Field(0.6, ge=0, le=20)
    bytes_per_s: float = Field(2000, gt=0)

    def condition(self) -> NetworkCondition:
        """Long and narrow."""
        return NetworkCondition(delay_s=self.delay_s, bytes_per_s=self.bytes_per_s)


class NetworkLossy(_NetworkFault):
    """Lost packets, as TCP shows them: delays that jitter by `jitter_s`, and connections that break."""

    kind: Literal["network_lossy"]
    jitter_s: float = Field(1.0, ge=0, le=20)
    lost_every_s: float = Field(15, gt=0)
    """Mean time, in seconds of the rig, between connections that are given up."""

    def condition(self) -> NetworkCondition:
        """Jittering."""
        return NetworkCondition(jitter_s=self.jitter_s)

    async def apply(self, site: Site) -> None:
        """The network becomes bad, and connections break at random."""
        await super().apply(site)
        site.run(self._break_connections(site), "lossy-network")

    async def _break_connections(self, site: Site) -> None:
        while True:
            await asyncio.sleep(site.rng.expovariate(1 / self.lost_every_s))
            await site.rig.drop_connections()


class BrokerRestart(Fault):
    """The broker stops in order and is back after `for_s`."""

    cuts_off = True
    kind: Literal["broker_restart"]

    async def apply(self, site: Site) -> None:
        """Stop it."""
        await site.rig.stop_broker(unsaved=False)

    async def lift(self, site: Site) -> None:
        """Start it."""
        await site.rig.start_broker()


class BrokerKill(Fault):
    """The broker takes records and acknowledges them while dispatch is away, then is killed before it saved.

    For `for_s` the broker alone has what the vehicle sends; then it dies with it.
    """

    cuts_off = True
    kind: Literal["broker_kill"]

    async def apply(self, site: Site) -> None:
        """Dispatch goes away; the broker acknowledges on its own."""
        await site.rig.dispatch.stop()

    async def lift(self, site: Site) -> None:
        """The broker dies and is started again; dispatch is back."""
        await site.rig.stop_broker(unsaved=True)
        await site.rig.start_broker()
        await site.rig.dispatch.start()


class BrokerRefuses(Fault):
    """The broker answers and says "not authorised"."""

    cuts_off = True
    kind: Literal["broker_refuses"]

    async def apply(self, site: Site) -> None:
        """Refuse."""
        await site.rig.refuse(on=True)

    async def lift(self, site: Site) -> None:
        """Take clients again."""
        await site.rig.refuse(on=False)


class DispatchAway(Fault):
    """Dispatch's own connection is lost; the broker and the vehicle go on."""

    cuts_off = True
    kind: Literal["dispatch_away"]

    async def apply(self, site: Site) -> None:
        """Dispatch goes away."""
        await site.rig.dispatch.stop()

    async def lift(self, site: Site) -> None:
        """Dispatch is back."""
        await site.rig.dispatch.start()
