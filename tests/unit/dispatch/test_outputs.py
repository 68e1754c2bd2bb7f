"""Each feed is read by a parser that is not its own, and none passes what was for what is."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import pynmea2
import pytest
from pydantic import ValidationError

from agent.dispatch.outputs import taip
from agent.dispatch.outputs.output import OUTPUTS, Output, OutputError, OutputSettings, make
from firmware_shims.system_clock import SystemClock

NOW_MS = 1_790_000_000_000
HOSTILE = 'x"><evil/>&\x00'


def unit(name: str = "A1", **more: Any) -> dict[str, Any]:
    position = {
        "lat_deg": 42.3601,
        "lon_deg": -71.0589,
        "alt_m": 12.0,
        "speed_mps": 13.4112,
        "course_deg": 84.4,
    }
    told = {
        "agency": "boston-ems",
        "unit": name,
        "online": True,
        "status": "en_route",
        "status_ms": NOW_MS,
        "emergency": False,
        "freshness": "live",
        "position": position,
        "position_ms": NOW_MS - 2_000,
        "call": None,
    }
    return told | more


NOT_LIVE = [
    unit("S1", freshness="stale", position_ms=NOW_MS - 600_000),
    unit("S2", freshness="offline"),
    unit("S3", freshness="no_fix"),
    unit("S4", freshness="doubtful"),
    unit("S5", freshness="none", position=None, position_ms=None),
]


def publish_nothing(*_: object) -> bool:
    return True


async def give(output: Output, *units: dict[str, Any], now_ms: int = NOW_MS) -> None:
    try:
        await output.give(units, now_ms)
    finally:
        await output.close()


@contextmanager
def udp() -> Iterator[tuple[socket.socket, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        yield receiver, receiver.getsockname()[1]


def datagrams(receiver: socket.socket) -> list[bytes]:
    found = [receiver.recv(2000)]
    receiver.setblocking(False)
    try:
        while True:
            found.append(receiver.recv(2000))
    except BlockingIOError:
        return found


def test_taip_has_the_checksum_of_the_published_example() -> None:
    assert taip.checksum(">RPV15714+3739438-1220384601512612;ID=1234;*") == "7F"


def test_taip_says_where_live_units_are_under_their_mapped_names() -> None:
    with udp() as (receiver, port):
        output = make(OutputSettings(kind="taip", port=port, ids={"A1": "0101"}), publish_nothing)
        asyncio.run(give(output, unit(), *NOT_LIVE))
        (message,) = datagrams(receiver)
    found = re.fullmatch(
        rb">RPV(\d{5})([+-]\d{2})(\d{5})([+-]\d{3})(\d{5})(\d{3})(\d{3})(\d)(\d);ID=(\w{4});\*(..)<", message
    )
    assert found is not None
    seconds, lat, lat_rest, lon, lon_rest, mph, heading, source, age, name, _ = (
        part.decode() for part in found.groups()
    )
    at = datetime.fromtimestamp((NOW_MS - 2_000) / 1000, UTC)
    assert int(seconds) == at.hour * 3600 + at.minute * 60 + at.second
    assert (int(lat), lat_rest, int(lon), lon_rest) == (42, "36010", -71, "05890")
    assert (int(mph), int(heading), source, age, name) == (30, 84, "1", "2", "0101")


def test_taip_names_a_unit_that_has_no_identifier_and_gives_the_others() -> None:
    with udp() as (receiver, port):
        output = make(OutputSettings(kind="taip", port=port, ids={"A2": "0102"}), publish_nothing)
        with pytest.raises(OutputError, match="A1"):
            asyncio.run(give(output, unit("A1"), unit("A2")))
        assert b"ID=0102" in datagrams(receiver)[0]


def test_nmea_is_read_by_another_parser() -> None:
    with udp() as (receiver, port):
        output = make(OutputSettings(kind="nmea", port=port), publish_nothing)
        still = unit(
            "A2", position=unit()["position"] | {"course_deg": None, "speed_mps": None, "lon_deg": 0.5}
        )
        asyncio.run(give(output, unit(), still, *NOT_LIVE))
        lines = [data.decode() for data in datagrams(receiver)]
    assert [line.split("\\")[1].split("*")[0] for line in lines] == ["s:A1", "s:A2"]
    moving, parked = (pynmea2.parse(line.split("\\")[2].strip(), check=True) for line in lines)
    assert moving.latitude == pytest.approx(42.3601, abs=1e-6)
    assert moving.longitude == pytest.approx(-71.0589, abs=1e-6)
    assert moving.spd_over_grnd == pytest.approx(26.07, abs=0.01)
    assert (moving.true_course, parked.true_course, parked.spd_over_grnd) == (84.4, None, None)
    assert moving.datetime.timestamp() == pytest.approx((NOW_MS - 2_000) / 1000)


GPSD = shutil.which("gpsd") or shutil.which("gpsd", path="/usr/sbin")


def test_nmea_is_read_back_by_gpsd() -> None:
    if GPSD is None:
        pytest.skip("gpsd is not installed")
    with udp() as (free, port), socket.socket() as control:
        control.bind(("127.0.0.1", 0))
        answers = control.getsockname()[1]
        free.close()
        control.close()
        daemon = subprocess.Popen([GPSD, "-N", "-n", "-S", str(answers), f"udp://127.0.0.1:{port}"])
        try:
            told = read_by_gpsd(answers, port)
        finally:
            daemon.terminate()
            daemon.wait()
    assert told["lat"] == pytest.approx(42.3601, abs=1e-6)
    assert told["lon"] == pytest.approx(-71.0589, abs=1e-6)
    assert told["speed"] == pytest.approx(13.41, abs=0.01)
    assert told["track"] == pytest.approx(84.4)


def read_by_gpsd(answers: int, port: int) -> dict[str, Any]:
    """What gpsd made of our sentences; they are repeated until it says something."""
    pause = threading.Event()
    for _ in range(200):
        try:
            talk = socket.create_connection(("127.0.0.1", answers), timeout=20)
            break
        except OSError:
            pause.wait(0.1)
    with talk, talk.makefile() as lines:
        talk.sendall(b'?WATCH={"enable":true,"json":true}\n')
        stopped = threading.Event()

        def speak() -> None:
            at_ms = SystemClock().system_utc().unix_ms
            while not stopped.wait(0.2):
                at_ms += 1000
                output = make(OutputSettings(kind="nmea", port=port), publish_nothing)
                asyncio.run(give(output, unit(position_ms=at_ms), now_ms=at_ms))

        speaking = threading.Thread(target=speak)
        speaking.start()
        try:
            for line in lines:
                told: dict[str, Any] = json.loads(line)
                if told["class"] == "TPV" and "lat" in told:
                    return told
        finally:
            stopped.set()
            speaking.join()
    raise AssertionError("gpsd said nothing of it")


def test_geojson_keeps_every_unit_and_says_what_its_position_is_worth(tmp_path: Path) -> None:
    file = tmp_path / "units.geojson"
    output = make(OutputSettings(kind="geojson", file=str(file)), publish_nothing)
    asyncio.run(output.give([unit(), *NOT_LIVE], NOW_MS))
    features = json.loads(file.read_text())["features"]
    assert features[0]["geometry"] == {"type": "Point", "coordinates": [-71.0589, 42.3601]}
    worth = {one["properties"]["unit"]: one["properties"]["freshness"] for one in features}
    assert worth == {"A1": "live", "S1": "stale", "S2": "offline", "S3": "no_fix", "S4": "doubtful"}
    assert [one.name for one in tmp_path.iterdir()] == ["units.geojson"]
    asyncio.run(output.close())
    asyncio.run(output.close())
    features = json.loads(file.read_text())["features"]
    assert {one["properties"]["freshness"] for one in features} == {"not_renewed"}


def test_cot_reaches_a_tak_server_with_the_time_at_which_it_is_stale() -> None:
    async def work() -> bytes:
        received = bytearray()
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                received.extend(data)
            writer.close()
            done.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = OutputSettings(kind="cot", url=f"tcp://127.0.0.1:{port}")
        await give(make(settings, publish_nothing), unit(status=HOSTILE), *NOT_LIVE)
        async with asyncio.timeout(20):
            await done.wait()
        server.close()
        await server.wait_closed()
        return bytes(received)

    event = ET.fromstring(
        asyncio.run(work()).decode().partition("?>")[2]
    )  # one event: a second would be an error
    assert event.get("type") == "a-f-G-E-V-m"
    point = event.find("point")
    assert point is not None
    assert (float(point.get("lat", "0")), float(point.get("lon", "0"))) == (42.3601, -71.0589)
    start, stale = (datetime.fromisoformat(event.get(name, "")) for name in ("start", "stale"))
    assert start.timestamp() == (NOW_MS - 2_000) / 1000
    assert (stale - start).total_seconds() == 75
    assert event.find("evil") is None


def test_cot_goes_by_udp_through_the_library() -> None:
    with udp() as (receiver, port):
        output = make(OutputSettings(kind="cot", url=f"udp://127.0.0.1:{port}"), publish_nothing)
        asyncio.run(give(output, unit()))
        assert b'uid="ems.boston-ems.A1"' in receiver.recv(4000)


REGISTRY = {
    "incident_type": "Medical",
    "resource_type": "Ambulance",
    "en_route": "Unavailable/En Route",
    "available": "Available",
}
REFERENCE = {"type": "object", "required": ["$ref"], "properties": {"$ref": {"pattern": "^urn:"}}}
COMPONENT = {
    "$id": {"type": "string", "pattern": "^urn:"},
    "lastUpdateTimeStamp": {"type": "string", "format": "date-time"},
    "updatedByAgencyReference": REFERENCE,
}
EIDO = {
    "type": "object",
    "required": [
        "$id",
        "eidoVersion",
        "issuingElementIdentification",
        "lastUpdateTimeStamp",
        "incidentComponent",
    ],
    "properties": COMPONENT
    | {
        "eidoVersion": {"const": "1.0"},
        "incidentComponent": {
            "type": "object",
            "required": ["$id", "incidentTypeCommonRegistryText"],
            "properties": COMPONENT,
        },
        "emergencyResourceComponent": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": [
                    "$id",
                    "emergencyResourceTypeCommonRegistryText",
                    "primaryUnitStatusRegistryText",
                ],
                "properties": COMPONENT | {"locationReference": REFERENCE},
            },
        },
    },
}
"""What public implementations of the data object ask for; nobody's consumer was there to be asked."""


def test_eido_has_a_document_an_incident_and_a_place_for_live_units_only(tmp_path: Path) -> None:
    file = tmp_path / "eido.jsonl"
    output = make(OutputSettings(kind="eido", file=str(file), registry=REGISTRY), publish_nothing)
    units = [
        unit("A1", incident="26-1"),
        unit("A2", incident="26-1", freshness="stale"),
        unit("A3", call={"incident": "26-2"}),
        unit("A4"),
    ]
    asyncio.run(give(output, *units))
    first, second = map(json.loads, file.read_text().splitlines())
    for one in (first, second):
        jsonschema.validate(one, EIDO)
        there = {part["$id"] for name in ("agencyComponent", "locationComponent") for part in one[name]}
        for resource in one["emergencyResourceComponent"]:
            assert resource["updatedByAgencyReference"]["$ref"] in there
            assert resource.get("locationReference", {"$ref": next(iter(there))})["$ref"] in there
    assert first["incidentComponent"]["internalIncidentId"] == "26-1"
    live, stale = first["emergencyResourceComponent"]
    assert (live["primaryUnitStatusRegistryText"], live["secondaryUnitStatusRegistryText"]) == (
        "Unavailable",
        ["En Route"],
    )
    assert live["unitStatusInternal"] == ["en_route"]
    assert "locationReference" not in stale
    (place,) = first["locationComponent"]
    (point,) = ET.fromstring(place["locationByValue"]).iter("{http://www.opengis.net/gml}pos")
    assert point.text == "42.3601000 -71.0589000"


def test_eido_names_a_status_that_the_registry_has_no_word_for_and_gives_the_others() -> None:
    with Web() as web:
        output = make(OutputSettings(kind="eido", url=web.url, registry=REGISTRY), publish_nothing)
        units = [unit("A1", incident="26-1"), unit("A2", incident="26-1", status="staged")]
        for _ in range(2):
            with pytest.raises(OutputError, match="no word for staged"):
                asyncio.run(output.give(units, NOW_MS))
        assert len(web.requests) == 1, "what was taken is not sent again"
        (resource,) = json.loads(web.requests[0][1])["emergencyResourceComponent"]
        assert resource["emergencyResourceName"] == "A1"
        web.status = 500
        with pytest.raises(OutputError, match="500"):
            asyncio.run(output.give([unit("A1", incident="26-1", status="available")], NOW_MS))
        web.status = 200
        asyncio.run(output.give([unit("A1", incident="26-1", status="available")], NOW_MS))
        assert len(web.requests) == 3


class Web:
    """An HTTP server that keeps what comes, and may refuse."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.status = 200
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                web.requests.append((self.path, body))
                self.send_response(web.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Web:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_osmand_gives_each_new_position_once_and_leaves_out_what_is_not_known() -> None:
    with Web() as web:
        output = make(OutputSettings(kind="osmand", url=web.url), publish_nothing)
        still = unit("A2", position=unit()["position"] | {"course_deg": None, "speed_mps": None})
        asyncio.run(give(output, unit(emergency=True), still, *NOT_LIVE))
        asyncio.run(give(output, unit(emergency=True), still))
        first, second = (parse_qs(urlsplit(path).query) for path, _ in web.requests)
    assert (first["id"], first["lat"], first["lon"]) == (["A1"], ["42.3601000"], ["-71.0589000"])
    assert (first["speed"], first["bearing"], first["alarm"]) == (["26.07"], ["84.4"], ["sos"])
    assert first["timestamp"] == [str((NOW_MS - 2_000) // 1000)]
    assert second.keys().isdisjoint({"speed", "bearing", "alarm"})


def test_a_webhook_is_repeated_until_it_is_taken() -> None:
    with Web() as web:
        output = make(OutputSettings(kind="webhook", url=web.url), publish_nothing)
        web.status = 503
        with pytest.raises(OutputError, match="503"):
            asyncio.run(output.give([unit()], NOW_MS))
        web.status = 200
        asyncio.run(output.give([unit(), *NOT_LIVE], NOW_MS))
        asyncio.run(output.give([unit(), *NOT_LIVE], NOW_MS))
        assert len(web.requests) == 2
        told = {one["unit"]: one for one in json.loads(web.requests[1][1])["units"]}
    assert told["A1"]["position"]["lat_deg"] == 42.3601
    assert told["S1"]["position"] is None
    assert told["S1"]["last_position"]["lat_deg"] == 42.3601


def test_plain_json_is_sent_on_a_change_renewed_and_forgotten_by_the_broker() -> None:
    sent: list[tuple[str, bytes, bool, int | None]] = []

    def publish(topic: str, payload: bytes, kept: bool, expiry_s: int | None) -> bool:
        sent.append((topic, payload, kept, expiry_s))
        return True

    output = make(OutputSettings(kind="mqtt_json"), publish)
    for after_ms in (0, 5_000, 70_000):
        asyncio.run(output.give([unit()], NOW_MS + after_ms))
    asyncio.run(output.give([unit(freshness="stale")], NOW_MS + 71_000))
    assert [(topic, kept, expiry) for topic, _, kept, expiry in sent] == [
        ("units/v1/boston-ems/A1", True, 150)
    ] * 3
    last = json.loads(sent[-1][1])
    assert (last["freshness"], last["position"]) == ("stale", None)
    with pytest.raises(OutputError):
        asyncio.run(make(OutputSettings(kind="mqtt_json"), lambda *_: False).give([unit()], NOW_MS))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_feed_says_its_protection_and_what_its_settings_lack(kind: Any) -> None:
    assert OUTPUTS[kind].protection
    if kind != "mqtt_json":
        with pytest.raises(ValueError, match=kind):
            make(OutputSettings(kind=kind), publish_nothing)


def test_settings_that_can_not_be_are_refused() -> None:
    with pytest.raises(ValidationError):
        OutputSettings.model_validate({"kind": "fax"})
    with pytest.raises(ValidationError):
        OutputSettings(kind="webhook", url="file:///etc/passwd")
    with pytest.raises(ValueError, match="four"):
        make(OutputSettings(kind="taip", port=1, ids={"A1": "toolong"}), publish_nothing)


@pytest.mark.parametrize(
    ("kind", "more"), [("cot", {"url": "tcp://127.0.0.1:1"}), ("osmand", {"url": "http://127.0.0.1:1"})]
)
def test_a_receiver_that_is_away_is_an_error_and_no_end(kind: Any, more: dict[str, Any]) -> None:
    output = make(OutputSettings(kind=kind, **more), publish_nothing)
    for _ in range(2):
        with pytest.raises(OutputError):
            asyncio.run(give(output, unit()))
