"""Places that a service knows: stations, posts, hospitals, areas; and when the unit comes and goes.

A place is a circle about a point or an area with a border. Coming in is believed after the unit was inside
for the place's dwell time, going out after it was outside of the border plus a margin: a receiver that
drifts at a hospital's wall neither arrives nor leaves with each fix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agent.domain.geodesy import distance_m, offset_m

KINDS = ("station", "post", "hospital", "scene", "border", "other")
DEFAULT_RADIUS_M = 150.0
"""Advice for patient transport, for large sites (mediroutes.com): 50 feet fail at hospitals."""
LEAVING_MARGIN_M = 50.0
_MAX_PLACES = 2_000
_MAX_CORNERS = 2_000
_MIN_CORNERS = 4
"""A triangle, whose first corner stands again at its end."""
_HALF_TURN_DEG = 180
_NAME_LENGTH = 64
_FARTHEST_M = 20_000.0
"""Beyond it no place is called near, and the plane on which areas are drawn is no longer flat enough."""

Ring = tuple[tuple[float, float], ...]
"""Corners as (longitude, latitude) in degrees, the order of GeoJSON."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place.

    Attributes:
        id: unique within the file; what records name it by.
        name: for a person.
        kind: one of `KINDS`.
        lat_deg: latitude of the point, or of the middle of the area.
        lon_deg: longitude of the same.
        radius_m: of the circle about the point; of an area's outermost corner from its middle.
        dwell_s: how long the unit must be inside before it has arrived.
        border: the area's outer ring; None for a circle.
    """

    id: str
    name: str
    kind: str
    lat_deg: float
    lon_deg: float
    radius_m: float = DEFAULT_RADIUS_M
    dwell_s: float = 30.0
    border: Ring | None = None

    def distance_m(self, lat_deg: float, lon_deg: float) -> float:
        """How far outside of the place a point is, in metres; 0 inside."""
        away_m = distance_m(self.lat_deg, self.lon_deg, lat_deg, lon_deg)
        if self.border is None or away_m > self.radius_m + _FARTHEST_M:
            return max(0.0, away_m - self.radius_m)
        corners = [offset_m(lat_deg, lon_deg, lat, lon) for lon, lat in self.border]
        return 0.0 if _around_origin(corners) else _from_origin_m(corners)


@dataclass(frozen=True, slots=True)
class PlaceEvent:
    """The unit came to a place or left it.

    Attributes:
        place: which.
        entered: True when it came, False when it left.
        since_boottime_ns: first fix inside, or first fix outside; earlier than the moment this is told.
    """

    place: Place
    entered: bool
    since_boottime_ns: int


class Places:
    """All places of a file, and the questions asked of them."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._places = tuple(places)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places)

    def by_id(self, place_id: str) -> Place | None:
        """The place of that id, None when there is none."""
        return next((place for place in self._places if place.id == place_id), None)

    def nearest(self, lat_deg: float, lon_deg: float) -> tuple[Place, float] | None:
        """The nearest place that is no border, and the metres to it; None when none is within 20 km."""
        best: tuple[Place, float] | None = None
        # A degree of latitude is 111 km: most of a country is passed over by one comparison each.
        for place in self._places:
            if place.kind == "border" or abs(place.lat_deg - lat_deg) * 111_000 > (
                _FARTHEST_M + place.radius_m
            ):
                continue
            away_m = place.distance_m(lat_deg, lon_deg)
            if away_m <= _FARTHEST_M and (best is None or away_m < best[1]):
                best = place, away_m
        return best


@dataclass(slots=True)
class _Stay:
    inside: bool
    since_ns: int
    told: bool


class PlaceWatch:
    """Tells arrivals and departures from positions. Fed in the order of boot time; not thread-safe.

    Only what is near is held: the state of a place is forgotten once the unit left it.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stays: dict[str, _Stay] = {}

    @property
    def inside(self) -> tuple[Place, ...]:
        """Where the unit has arrived and not left, in the order of the file."""
        return tuple(place for place in self._places if (s := self._stays.get(place.id)) and s.told)

    def take(self, boottime_ns: int, lat_deg: float, lon_deg: float) -> tuple[PlaceEvent, ...]:
        """Take a position; returns what became certain by it."""
        events: list[PlaceEvent] = []
        for place in self._places:
            stay = self._stays.get(place.id)
            if stay is None and abs(place.lat_deg - lat_deg) * 111_000 > place.radius_m + 1_000:
                continue
            away_m = place.distance_m(lat_deg, lon_deg)
            if away_m <= 0:
                events += self._inside(place, stay, boottime_ns)
            elif stay is not None:
                events += self._outside(place, stay, boottime_ns, away_m)
        return tuple(events)

    def _inside(self, place: Place, stay: _Stay | None, now_ns: int) -> list[PlaceEvent]:
        if stay is None:
            stay = self._stays[place.id] = _Stay(inside=True, since_ns=now_ns, told=False)
        elif not stay.inside:
            # It was outside for less than the dwell time, or within the margin: it never left.
            stay.inside = True
        if stay.told or now_ns - stay.since_ns < place.dwell_s * 1e9:
            return []
        stay.told = True
        return [PlaceEvent(place, entered=True, since_boottime_ns=stay.since_ns)]

    def _outside(self, place: Place, stay: _Stay, now_ns: int, away_m: float) -> list[PlaceEvent]:
        if not stay.told:
            if away_m > LEAVING_MARGIN_M:
                del self._stays[place.id]  # drove by
            return []
        if stay.inside:
            stay.inside, stay.since_ns = False, now_ns
        if away_m <= LEAVING_MARGIN_M:
            return []
        del self._stays[place.id]
        return [PlaceEvent(place, entered=False, since_boottime_ns=stay.since_ns)]


def places_from_geojson(data: Any) -> tuple[Places, tuple[str, ...]]:
    """Read a GeoJSON FeatureCollection of points and polygons.

    Properties: `id` (else the name), `name`, `kind`, `radius_m` (points), `dwell_s`.

    Returns:
        The places that could be read, and one sentence for each feature that could not: a file with one
        bad row still serves the others, and says so.

    Raises:
        ValueError: it is no FeatureCollection at all.
    """
    if not isinstance(data, Mapping) or data.get("type") != "FeatureCollection":
        raise ValueError("a GeoJSON FeatureCollection is expected")
    features = data.get("features")
    if not isinstance(features, Sequence) or isinstance(features, str | bytes):
        raise ValueError("`features` must be a list")  # noqa: TRY004  # one error for "no such file form"
    places: dict[str, Place] = {}
    problems: list[str] = []
    for number, feature in enumerate(features[:_MAX_PLACES]):
        try:
            place = _place(feature)
        except (ValueError, TypeError) as error:
            problems.append(f"feature {number + 1}: {error}")
            continue
        if place.id in places:
            problems.append(f"feature {number + 1}: the id {place.id!r} is used twice")
        else:
            places[place.id] = place
    if len(features) > _MAX_PLACES:
        problems.append(f"only the first {_MAX_PLACES} features are used")
    return Places(places.values()), tuple(problems)


def _place(feature: Any) -> Place:
    if not isinstance(feature, Mapping):
        raise TypeError("is no object")
    properties = feature.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise TypeError("`properties` is no object")
    name = _text(properties.get("name"), "name")
    place_id = _text(properties["id"], "id") if "id" in properties else name
    kind = properties.get("kind", "other")
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r:.40} is none of {', '.join(KINDS)}")
    dwell_s = _number(properties.get("dwell_s", 30.0), "dwell_s", 0.0, 3_600.0)
    geometry = feature.get("geometry")
    if not isinstance(geometry, Mapping):
        raise TypeError("has no geometry")
    match geometry.get("type"):
        case "Point":
            lon, lat = _corner(geometry.get("coordinates"))
            radius_m = _number(properties.get("radius_m", DEFAULT_RADIUS_M), "radius_m", 1.0, _FARTHEST_M)
            return Place(place_id, name, kind, lat, lon, radius_m, dwell_s)
        case "Polygon":
            return _area(place_id, name, kind, dwell_s, geometry.get("coordinates"))
        case other:
            raise ValueError(f"geometry {other!r:.40}: a Point or a Polygon is expected")


def _area(place_id: str, name: str, kind: str, dwell_s: float, coordinates: Any) -> Place:
    if not isinstance(coordinates, Sequence) or len(coordinates) != 1:
        raise ValueError("a polygon of one ring, without holes, is expected")
    ring = coordinates[0]
    if not isinstance(ring, Sequence) or not _MIN_CORNERS <= len(ring) <= _MAX_CORNERS:
        raise ValueError(f"a ring of {_MIN_CORNERS} to {_MAX_CORNERS} corners is expected")
    border = tuple(_corner(corner) for corner in ring)
    if border[0] != border[-1]:
        raise ValueError("the ring is not closed")
    lons, lats = [lon for lon, _ in border], [lat for _, lat in border]
    if max(lons) - min(lons) > _HALF_TURN_DEG:
        raise ValueError("an area across the date line is not supported")
    lat, lon = (min(lats) + max(lats)) / 2, (min(lons) + max(lons)) / 2
    radius_m = max(distance_m(lat, lon, corner_lat, corner_lon) for corner_lon, corner_lat in border)
    if radius_m == 0:
        raise ValueError("the area has no extent")
    return Place(place_id, name, kind, lat, lon, radius_m, dwell_s, border)


def _corner(value: Any) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError("coordinates are [longitude, latitude]")
    lon, lat, *_height = (*value, None, None)
    return _number(lon, "longitude", -180, 180), _number(lat, "latitude", -90, 90)


def _number(value: Any, what: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} is no number")
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{what} {value!r:.40} is not between {least:g} and {most:g}")
    return float(value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"has no {what}")
    if len(value) > _NAME_LENGTH or not value.isprintable():
        raise ValueError(f"{what} is longer than {_NAME_LENGTH} characters or not printable")
    return value


def _around_origin(corners: Sequence[tuple[float, float]]) -> bool:
    """Whether the closed ring goes around (0, 0): a ray to the east crosses it an odd number of times."""
    inside = False
    for (x1, y1), (x2, y2) in pairwise(corners):
        if (y1 > 0) != (y2 > 0) and x1 - y1 * (x2 - x1) / (y2 - y1) > 0:
            inside = not inside
    return inside


def _from_origin_m(corners: Sequence[tuple[float, float]]) -> float:
    """Distance from (0, 0) to the nearest point of the ring."""
    best = math.inf
    for (x1, y1), (x2, y2) in pairwise(corners):
        dx, dy = x2 - x1, y2 - y1
        length_2 = dx * dx + dy * dy
        along = 0.0 if length_2 == 0 else min(1.0, max(0.0, -(x1 * dx + y1 * dy) / length_2))
        best = min(best, math.hypot(x1 + along * dx, y1 + along * dy))
    return best
