"""The streets of a city as a graph: made up from a seed, or read from files of streets.

A made-up city is a bent lattice with main streets, a river with few bridges and blocks that are missing. A
file of streets is GeoJSON as `hil.drive.street_map` reads it. Places are metres east and north of the city's
corner.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hil.drive.route import METRES_PER_DEGREE
from hil.drive.street_map import DEFAULT_LIMIT_KMH, LIMIT_KMH

Point = tuple[float, float]
"""Metres east and north."""

MADE_UP_CORNER = (42.2600, -71.1600)
"""South-western corner of a made-up city: a latitude at which a degree of longitude is 82 km."""
BLOCK_M = 200.0
COLUMNS, ROWS = 61, 49
MAIN_EVERY = 4
RIVER_AFTER_ROW = 24
BRIDGES_EVERY = 12
MISSING = 0.12
BENT_M = 28.0
MAIN_KMH, SIDE_KMH = 48, 40
_CELL_M = 250.0


class NoStreetsError(ValueError):
    """A file holds no streets that are joined to each other."""


class Streets:
    """A graph of street points.

    Attributes:
        source: where the streets come from, for a person.
        points: of the nodes, in metres.
        edges: of each node: (other node, metres, metres per second allowed, is a main street).
        width_m: of the city, to the east.
        height_m: of the city, to the north.
    """

    def __init__(self, source: str, corner: tuple[float, float], points: Sequence[Point]) -> None:
        self.source = source
        self.points = list(points)
        self.edges: list[list[tuple[int, float, float, bool]]] = [[] for _ in self.points]
        self.width_m = max(east for east, _ in self.points)
        self.height_m = max(north for _, north in self.points)
        self._corner = corner
        self._east_m_per_deg = METRES_PER_DEGREE * math.cos(math.radians(corner[0]))
        self._cells: dict[tuple[int, int], list[int]] = defaultdict(list)
        for node, (east, north) in enumerate(self.points):
            self._cells[int(east // _CELL_M), int(north // _CELL_M)].append(node)

    # ------------------------------------------------------------------ making

    @classmethod
    def made_up(cls, seed: int) -> Streets:
        """A city that is nowhere, the same for the same seed."""
        rng = random.Random(f"{seed}/streets")
        bent = [
            (
                max(0.0, column * BLOCK_M + rng.uniform(-BENT_M, BENT_M)),
                max(0.0, row * BLOCK_M + rng.uniform(-BENT_M, BENT_M)),
            )
            for row in range(ROWS)
            for column in range(COLUMNS)
        ]
        streets = cls(f"made up from seed {seed}: {COLUMNS} by {ROWS} blocks of 200 m", MADE_UP_CORNER, bent)
        for row in range(ROWS):
            for column in range(COLUMNS):
                here = row * COLUMNS + column
                if column + 1 < COLUMNS:
                    main = row % MAIN_EVERY == 0
                    if main or rng.random() >= MISSING:
                        streets.join(here, here + 1, MAIN_KMH if main else SIDE_KMH, main=main)
                if row + 1 < ROWS:
                    main = column % MAIN_EVERY == 0
                    bridge = column % BRIDGES_EVERY == 0
                    if (row != RIVER_AFTER_ROW or bridge) and (main or rng.random() >= MISSING):
                        streets.join(here, here + COLUMNS, MAIN_KMH if main else SIDE_KMH, main=main)
        return streets.largest_part()

    @classmethod
    def load(cls, *paths: Path) -> Streets:
        """Read files of streets. Raises OSError, ValueError for what is no GeoJSON, NoStreetsError."""
        lines = [line for path in paths for line in _lines(path)]
        if not lines:
            raise NoStreetsError("no line in " + ", ".join(str(path) for path in paths))
        corner = (
            min(lat for _, line in lines for lat, _ in line),
            min(lon for _, line in lines for _, lon in line),
        )
        east_m_per_deg = METRES_PER_DEGREE * math.cos(math.radians(corner[0]))
        number: dict[tuple[float, float], int] = {}
        for _, line in lines:
            for place in line:
                number.setdefault(place, len(number))
        points = [
            ((lon - corner[1]) * east_m_per_deg, (lat - corner[0]) * METRES_PER_DEGREE) for lat, lon in number
        ]
        names = ", ".join(path.name for path in paths)
        streets = cls(f"{names} (OpenStreetMap contributors, ODbL)", corner, points)
        for road_class, line in lines:
            limit_kmh = LIMIT_KMH.get(road_class, DEFAULT_LIMIT_KMH)
            main = road_class in ("primary", "secondary")
            for a, b in pairwise(line):
                if a != b:
                    streets.join(number[a], number[b], limit_kmh, main=main)
        return streets.largest_part()

    def join(self, a: int, b: int, limit_kmh: float, *, main: bool) -> None:
        """A street between two nodes, both ways."""
        length_m = math.dist(self.points[a], self.points[b])
        self.edges[a].append((b, length_m, limit_kmh / 3.6, main))
        self.edges[b].append((a, length_m, limit_kmh / 3.6, main))

    def largest_part(self) -> Streets:
        """The largest set of nodes that can all be reached from each other. Raises NoStreetsError."""
        part_of = [-1] * len(self.points)
        sizes: list[int] = []
        for start in range(len(self.points)):
            if part_of[start] >= 0:
                continue
            part_of[start], waiting, size = len(sizes), [start], 0
            while waiting:
                node = waiting.pop()
                size += 1
                for other, *_ in self.edges[node]:
                    if part_of[other] < 0:
                        part_of[other] = len(sizes)
                        waiting.append(other)
            sizes.append(size)
        if not sizes or max(sizes) < 2:
            raise NoStreetsError("no two points of a street are joined")
        largest = sizes.index(max(sizes))
        kept = [node for node in range(len(self.points)) if part_of[node] == largest]
        new = {node: index for index, node in enumerate(kept)}
        streets = Streets(self.source, self._corner, [self.points[node] for node in kept])
        for node in kept:
            streets.edges[new[node]] = [(new[other], *rest) for other, *rest in self.edges[node]]  # type: ignore[misc]  # the rest of an edge
        return streets

    # ------------------------------------------------------------------ places

    def lat_lon(self, point: Point) -> tuple[float, float]:
        """WGS 84 latitude and longitude in degrees of a place."""
        return (
            self._corner[0] + point[1] / METRES_PER_DEGREE,
            self._corner[1] + point[0] / self._east_m_per_deg,
        )

    def point_at(self, lat_deg: float, lon_deg: float) -> Point:
        """The inverse of `lat_lon`."""
        return (
            (lon_deg - self._corner[1]) * self._east_m_per_deg,
            (lat_deg - self._corner[0]) * METRES_PER_DEGREE,
        )

    def nearest(self, point: Point) -> int:
        """The node nearest to a place."""
        column, row = int(point[0] // _CELL_M), int(point[1] // _CELL_M)
        best, best_m, reach = -1, math.inf, 0
        # One ring of cells more than the first hit: what is nearest may lie across a corner.
        while best < 0 or (reach - 1) * _CELL_M <= best_m:
            for cell in _ring(column, row, reach):
                for node in self._cells.get(cell, ()):
                    away_m = math.dist(self.points[node], point)
                    if away_m < best_m:
                        best, best_m = node, away_m
            reach += 1
        return best

    # ------------------------------------------------------------------ ways

    def route(self, start: int, end: int) -> list[int]:
        """The quickest way between two nodes, by the limits; every node on it."""
        if start == end:
            return [start]
        goal = self.points[end]
        came_from: dict[int, int] = {}
        best = {start: 0.0}
        queue = [(0.0, start)]
        done: set[int] = set()
        fastest_mps = MAIN_KMH / 3.6
        while queue:
            _, node = heapq.heappop(queue)
            if node == end:
                break
            if node in done:
                continue
            done.add(node)
            for other, length_m, limit_mps, _ in self.edges[node]:
                through_s = best[node] + length_m / limit_mps
                if through_s < best.get(other, math.inf):
                    best[other] = through_s
                    came_from[other] = node
                    ahead_s = math.dist(self.points[other], goal) / fastest_mps
                    heapq.heappush(queue, (through_s + ahead_s, other))
        way = [end]
        while way[-1] != start:
            way.append(came_from[way[-1]])
        way.reverse()
        return way

    def metres_from(self, start: int, ends: Collection[int]) -> Mapping[int, float]:
        """The shortest way in metres from a node to each of others."""
        missing = set(ends)
        best = {start: 0.0}
        found: dict[int, float] = {}
        queue = [(0.0, start)]
        while queue and missing:
            along_m, node = heapq.heappop(queue)
            if along_m > best[node]:
                continue
            if node in missing:
                missing.discard(node)
                found[node] = along_m
            for other, length_m, _, _ in self.edges[node]:
                through_m = along_m + length_m
                if through_m < best.get(other, math.inf):
                    best[other] = through_m
                    heapq.heappush(queue, (through_m, other))
        return found

    def geojson(self) -> dict[str, Any]:
        """The streets as the dispatch page draws them."""
        features = []
        for node, edges in enumerate(self.edges):
            for other, _, _, main in edges:
                if node < other:
                    ends = [self.lat_lon(self.points[one]) for one in (node, other)]
                    features.append(
                        {
                            "type": "Feature",
                            "properties": {"name": "", "highway": "primary" if main else "residential"},
                            "geometry": {
                                "type": "LineString",
                                "coordinates": [[round(lon, 6), round(lat, 6)] for lat, lon in ends],
                            },
                        }
                    )
        return {"type": "FeatureCollection", "features": features}


def _ring(column: int, row: int, reach: int) -> list[tuple[int, int]]:
    if reach == 0:
        return [(column, row)]
    span = range(-reach, reach + 1)
    across = [(column + step, row + side) for step in span for side in (-reach, reach)]
    along = [(column + side, row + step) for step in span[1:-1] for side in (-reach, reach)]
    return across + along


def _lines(path: Path) -> list[tuple[str, list[tuple[float, float]]]]:
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        return [
            (
                str(one["properties"].get("highway") or ""),
                [(float(lat), float(lon)) for lon, lat, *_ in one["geometry"]["coordinates"]],
            )
            for one in features
            if one["geometry"]["type"] == "LineString"
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no GeoJSON of streets: {error}") from error
