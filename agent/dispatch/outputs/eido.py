"""NENA's Emergency Incident Data Object (STA-021): one document an incident, with the status of its units.

UNTESTED against a consumer. Fields are named as public implementations of STA-021.1a name them; the words of
its registries are the agency's to give, by the table `registry`: incident_type, resource_type, and for each
status token "primary" or "primary/secondary". A unit whose status has no word there is left out and named.
"""

from __future__ import annotations

import asyncio
import json
import uuid
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.dispatch.outputs.geojson_file import replace_file
from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture, name_of
from agent.dispatch.outputs.webhook import post
from agent.wire.time_text import utc_text

_NAMESPACE = uuid.UUID("6f2c6a1e-2c0b-5f8e-9a57-3d1b0c5e7a41")
_PRESENCE, _LOCATION = "urn:ietf:params:xml:ns:pidf", "urn:ietf:params:xml:ns:pidf:geopriv10"
_DATA_MODEL, _SHAPE = "urn:ietf:params:xml:ns:pidf:data-model", "http://www.opengis.net/gml"


class EidoOutput:
    """POSTs each document that changed to `url`, or replaces `file`, one document a line."""

    def __init__(self, settings: OutputSettings, _publish: Publish) -> None:
        self._url = settings.url or ""
        web = self._url.startswith(("http://", "https://"))
        if web == (settings.file is not None) or (self._url and not web):
            raise ValueError("output eido: give either url (http:// or https://) or file")
        if not {"incident_type", "resource_type"} <= settings.registry.keys():
            raise ValueError("output eido: registry needs incident_type and resource_type")
        self._settings = settings
        self._token_file = None if settings.token_file is None else Path(settings.token_file)
        self._taken: dict[str, str] = {}

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        made, nameless = documents(units, now_ms, self._settings)
        try:
            if self._settings.file is not None:
                lines = "".join(f"{json.dumps(one)}\n" for one in made)
                await asyncio.to_thread(replace_file, Path(self._settings.file), lines)
            else:
                await self._post(made)
        except OSError as error:
            raise OutputError(f"eido: {error}") from error
        if nameless:
            raise OutputError(f"eido: registry has no word for {', '.join(sorted(nameless))}")

    async def close(self) -> None:
        """See `Output.close`."""

    async def _post(self, made: list[dict[str, Any]]) -> None:
        for document in made:
            said = json.dumps(document["emergencyResourceComponent"])
            if self._taken.get(document["$id"]) != said:
                await asyncio.to_thread(post, self._url, json.dumps(document).encode(), self._token_file)
                self._taken[document["$id"]] = said
        there = {document["$id"] for document in made}
        self._taken = {name: said for name, said in self._taken.items() if name in there}


def documents(
    units: Sequence[UnitPicture], now_ms: int, settings: OutputSettings
) -> tuple[list[dict[str, Any]], set[str]]:
    """A document an incident, and the statuses that the registry has no word for."""
    by_incident: dict[tuple[str, str], list[UnitPicture]] = defaultdict(list)
    for unit in units:
        call = unit["call"]
        incident = unit.get("incident") or (None if call is None else call["incident"])
        if incident is not None and unit["status"] is not None:
            by_incident[unit["agency"], incident].append(unit)
    nameless = {
        unit["status"]
        for members in by_incident.values()
        for unit in members
        if unit["status"] not in settings.registry
    }
    made = [
        _document(agency, incident, members, now_ms, settings)
        for (agency, incident), members in by_incident.items()
    ]
    return [one for one in made if one["emergencyResourceComponent"]], nameless


def _document(
    agency: str, incident: str, units: Sequence[UnitPicture], now_ms: int, settings: OutputSettings
) -> dict[str, Any]:
    agency_id = _id("agency", agency)
    now = {"lastUpdateTimeStamp": utc_text(now_ms), "updatedByAgencyReference": {"$ref": agency_id}}
    resources, places = [], []
    for unit in units:
        words = settings.registry.get(unit["status"])
        if words is None:
            continue
        primary, _, secondary = words.partition("/")
        changed = unit["status_ms"] or now_ms
        resource: dict[str, Any] = {
            "$id": _id("unit", agency, unit["unit"]),
            **now,
            "lastUpdateTimeStamp": utc_text(changed),
            "emergencyResourceName": name_of(unit, settings.ids),
            "emergencyResourceTypeCommonRegistryText": settings.registry["resource_type"],
            "primaryUnitStatusRegistryText": primary,
            "unitStatusInternal": [unit["status"]],
        }
        if secondary:
            resource["secondaryUnitStatusRegistryText"] = [secondary]
        eta = (unit.get("destination") or {}).get("eta")
        if eta is not None:
            resource["eta"] = eta
        if unit["freshness"] == "live":  # where it was, has no place here
            place_id = _id("place", agency, unit["unit"])
            resource["locationReference"] = {"$ref": place_id}
            places.append({"$id": place_id, **now, "locationByValue": _pidf_lo(unit)})
        resources.append(resource)
    return {
        "$id": _id("incident", agency, incident),
        "eidoVersion": "1.0",
        "issuingElementIdentification": agency,
        **now,
        "incidentComponent": {
            "$id": _id("incident-information", agency, incident),
            **now,
            "incidentTypeCommonRegistryText": settings.registry["incident_type"],
            "internalIncidentId": incident,
        },
        "agencyComponent": [{"$id": agency_id, "lastUpdateTimeStamp": utc_text(now_ms)}],
        "emergencyResourceComponent": resources,
        "locationComponent": places,
    }


def _pidf_lo(unit: UnitPicture) -> str:
    """A location object (RFC 5491) with the time at which it was true."""
    entity = f"pres:{unit['unit']}@{unit['agency']}.invalid"
    root = ET.Element(f"{{{_PRESENCE}}}presence", entity=entity)
    device = ET.SubElement(root, f"{{{_DATA_MODEL}}}device", id="unit")
    geopriv = ET.SubElement(device, f"{{{_LOCATION}}}geopriv")
    info = ET.SubElement(geopriv, f"{{{_LOCATION}}}location-info")
    point = ET.SubElement(info, f"{{{_SHAPE}}}Point", srsName="urn:ogc:def:crs:EPSG::4326")
    position = unit["position"]
    ET.SubElement(point, f"{{{_SHAPE}}}pos").text = f"{position['lat_deg']:.7f} {position['lon_deg']:.7f}"
    ET.SubElement(geopriv, f"{{{_LOCATION}}}usage-rules")
    ET.SubElement(device, f"{{{_DATA_MODEL}}}timestamp").text = utc_text(unit["position_ms"])
    return ET.tostring(root, encoding="unicode")


def _id(*parts: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, '/'.join(parts))}"
