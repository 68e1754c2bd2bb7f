"""What is done to a running site; each leaves it whole again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from hil.cluster.rabbitmq import Node
from hil.cluster.site import Site

AWAY_S = 6.0
TAKES_OVER_WITHIN_S = 180.0
SILENT_S = 20.0
"""Longer than the nodes wait for each other before one counts as gone (net_ticktime / 4 is looked at)."""


async def _back(node: Node) -> None:
    node.start()
    await asyncio.to_thread(node.wait)


async def kill_node(site: Site) -> None:
    """SIGKILL to one node, whichever units prefer it; it comes back."""
    node = site.cluster.nodes[0]
    await asyncio.to_thread(node.kill)
    await asyncio.sleep(AWAY_S)
    await _back(node)


async def kill_leader(site: Site) -> None:
    """SIGKILL to the node that leads the journal's stream."""
    told = json.loads(
        await asyncio.to_thread(site.cluster.ctl, "list_queues", "name", "leader", "--formatter=json")
    )
    leader = next((one["leader"] for one in told if one["name"] == "journal"), None)
    node = next((one for one in site.cluster.nodes if one.name == leader), site.cluster.nodes[-1])
    await asyncio.to_thread(node.kill)
    await asyncio.sleep(AWAY_S)
    await _back(node)


async def kill_two(site: Site) -> None:
    """SIGKILL to two of three: the third stops, and nothing is acknowledged until one is back."""
    gone = site.cluster.nodes[:2]
    for node in gone:
        await asyncio.to_thread(node.kill)
    await asyncio.sleep(2 * AWAY_S)
    for node in gone:
        node.start()
    for node in gone:
        await asyncio.to_thread(node.wait)


async def silence_node(site: Site) -> None:
    """A node that is stopped where it stands: its connections live, and nothing comes out of them."""
    node = site.cluster.nodes[1]
    node.pause()
    try:
        await asyncio.sleep(SILENT_S)
    finally:
        node.resume()


async def roll(site: Site) -> None:
    """Stop and start the nodes one after the other, as an upgrade does."""
    for node in site.cluster.nodes:
        await asyncio.to_thread(node.stop)
        await _back(node)


async def fill_disk(site: Site) -> None:
    """A node whose disk is full: it holds publishers back until there is room."""
    await asyncio.to_thread(site.cluster.ctl, "set_disk_free_limit", "900000GB")
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(site.cluster.ctl, "set_disk_free_limit", "50MB")


async def kill_storer(site: Site) -> None:
    """SIGKILL to the service that stores: the one that stands by takes over, and the dead one stands by."""
    dead, heir = site.services
    await asyncio.to_thread(dead.kill)
    await asyncio.to_thread(heir.wait_ready, TAKES_OVER_WITHIN_S)
    dead.launch()
    site.services.reverse()


async def kill_postgres(site: Site) -> None:
    """The database's server ends as in a crash, and is started again."""
    await asyncio.to_thread(site.postgres.stop, "immediate")
    await asyncio.sleep(2.0)
    await asyncio.to_thread(site.postgres.start)


HARMS: dict[str, Callable[[Site], Awaitable[None]]] = {
    "a node killed": kill_node,
    "the stream's leader killed": kill_leader,
    "the storer killed": kill_storer,
    "PostgreSQL killed": kill_postgres,
    "a full disk": fill_disk,
    "a silent node": silence_node,
    "a rolling restart": roll,
    "two nodes killed": kill_two,
}
