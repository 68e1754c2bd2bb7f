"""Finds ways along a file of streets, to plan new drives; the drives that are shipped need no map.

The file is GeoJSON: a FeatureCollection of LineStrings with `name` and `highway` (OpenStreetMap's road
class), as extracted from OpenStreetMap (data © OpenStreetMap contributors, ODbL). Ways that share a
coordinate are joined there.
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hil.drive.route import GeoPoint, Stretch, distance_m

LIMIT_KMH = {"primary": 48, "secondary": 48, "tertiary": 40, "unclassified": 40, "residential": 40}
"""Limits by road class in Boston: 30 mph on the main streets, 25 mph elsewhere."""
DEFAULT_LIMIT_KMH = 30
CLASS_COST = {"primary": 1.0, "secondary": 1.05, "tertiary": 1.2, "unclassified": 1.5}
"""Metres of a class count this much: drivers of large vehicles keep to the main streets."""
SIDE_STREET_COST = 1.8


class NoWayError(Exception):
    """No chain of streets joins the two places."""


@dataclass(frozen=True, slots=True)
class _Edge:
    to: GeoPoint
    cost_m: float
    name: str
    limit_kmh: int


class StreetMap:
    """Streets as a graph. One-way streets are not known to it: the source does not tell them."""

    def __init__(self, edges: dict[GeoPoint, list[_Edge]]) -> None:
        self._edges = edges

    @classmethod
    def load(cls, *paths: Path) -> StreetMap:
        """Read street files. Raises OSError, or ValueError when a file is not GeoJSON."""
        edges: dict[GeoPoint, list[_Edge]] = defaultdict(list)
        for path in paths:
            for name, road_class, line in _lines(path):
                limit_kmh = LIMIT_KMH.get(road_class, DEFAULT_LIMIT_KMH)
                weight = CLASS_COST.get(road_class, SIDE_STREET_COST)
                for a, b in pairwise(line):
                    cost_m = distance_m(a, b) * weight
                    edges[a].append(_Edge(b, cost_m, name, limit_kmh))
                    edges[b].append(_Edge(a, cost_m, name, limit_kmh))
        return cls(edges)

    def nearest(self, place: GeoPoint) -> GeoPoint:
        """The point of a street that lies nearest to `place`."""
        return min(self._edges, key=lambda node: distance_m(node, place))

    def route(self, start: GeoPoint, end: GeoPoint) -> list[Stretch]:
        """The cheapest way between the street points nearest to two places, one stretch a street.

        Raises NoWayError.
        """
        start, end = self.nearest(start), self.nearest(end)
        came_from: dict[GeoPoint, tuple[GeoPoint, _Edge]] = {}
        best = {start: 0.0}
        queue = [(0.0, start)]
        while queue:
            cost_m, node = heapq.heappop(queue)
            if node == end:
                return list(_stretches(_edges_back(came_from, start, end), start))
            if cost_m > best[node]:
                continue
            for edge in self._edges[node]:
                through_m = cost_m + edge.cost_m
                if through_m < best.get(edge.to, float("inf")):
                    best[edge.to] = through_m
                    came_from[edge.to] = (node, edge)
                    heapq.heappush(queue, (through_m, edge.to))
        raise NoWayError(f"no way along the streets from {start} to {end}")


def _lines(path: Path) -> Iterator[tuple[str, str, list[GeoPoint]]]:
    for feature in json.loads(path.read_text(encoding="utf-8"))["features"]:
        properties, geometry = feature["properties"], feature["geometry"]
        if geometry["type"] == "LineString":
            line = [(lat, lon) for lon, lat in geometry["coordinates"]]
            yield properties.get("name") or "", properties.get("highway") or "", line


def _edges_back(
    came_from: dict[GeoPoint, tuple[GeoPoint, _Edge]], start: GeoPoint, end: GeoPoint
) -> list[_Edge]:
    edges: list[_Edge] = []
    node = end
    while node != start:
        node, edge = came_from[node]
        edges.append(edge)
    edges.reverse()
    return edges


def _stretches(edges: list[_Edge], start: GeoPoint) -> Iterator[Stretch]:
    points, street = [start], edges[0]
    for edge in edges:
        if edge.name != street.name:
            yield Stretch(street=street.name, limit_kmh=street.limit_kmh, points=tuple(points))
            points, street = [points[-1]], edge
        points.append(edge.to)
    yield Stretch(street=street.name, limit_kmh=street.limit_kmh, points=tuple(points))
