"""Who may call what: every operation of the document is called by every role, by token and by certificate."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.dispatch.access import PERMISSIONS, new_token
from agent.dispatch.pki_command import main as mdt_pki
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.dispatch_process import DispatchProcess
from tests.integration.spoken_vehicle import A1, UTC_MS, Vehicle, wait_until

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(150),
]
ROLES = ("dispatch", "fleet", "safety", "reader")
OPEN_TO_ALL = {("post", "/api/session"), ("get", "/api/session"), ("delete", "/api/session")}
"""Operations without a role: how one comes in, and who one is."""
BODIES: dict[str, dict[str, Any]] = {
    "assign": {"incident": "26-1"},
    "update": {"incident": "26-1", "notes": "third floor"},
    "cancel": {"incident": "26-1"},
    "message": {"text": "call in"},
    "answer": {"journal": 7, "seq": 1, "verdict": "accepted"},
    "amend": {"journal": 7, "seq": 1, "status": "on_scene", "reason": "pressed late"},
    "cancel-emergency": {"journal": 7, "seq": 2},
    "crew": {"crew": ["123"]},
    "acknowledge": {},
    "report-now": {},
    "ping": {},
    "set-rate": {"every_s": 5, "for_s": 60},
    "replay": {"stream": "trail", "first": 1, "last": 2},
    "signals": {"names": ["Speed"], "every_s": 1, "for_s": 5},
    "diagnostics": {},
    "keep": {},
    "service": {"item": "oil"},
    "fetch": {"what": "bundle"},
    "config": {"patch": {"uplink": {"keepalive_s": 20}}},
    "restart": {},
    "/api/v1/alarms/{alarm_id}": {"step": "acknowledge"},
}
"""What makes each action a good one; a row is missing here as soon as there is a new action."""
VALUES = {
    "agency": "boston-ems",
    "unit": "A1",
    "day": "2026-09-21",
    "alarm_id": "1",
    "command_id": "nobody",
}


def configuration(folder: Path, broker: Mosquitto, *more: str) -> Path:
    lines = [f'store = "{folder / "units.db"}"', *more]
    lines += ["[broker]", 'host = "127.0.0.1"', f"port = {broker.port}", "allow_plaintext = true"]
    file = folder / "dispatch.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


@dataclass
class Room:
    service: DispatchProcess
    secrets: dict[str, str]
    vehicle: Vehicle


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        made = {role: new_token(f"somebody of {role}", role) for role in ROLES}  # type: ignore[arg-type]
        config = configuration(tmp_path, broker)
        rows = [row for _, row in made.values()]
        with config.open("a") as out:
            for row in rows:
                out.write(f'[[tokens]]\nname = "{row.name}"\nrole = "{row.role}"\nsha256 = "{row.sha256}"\n')
        options = ["--config", str(config)]
        secrets = {role: secret for role, (secret, _) in made.items()}
        url = f"mqtt://127.0.0.1:{broker.port}"
        with DispatchProcess(
            tmp_path / "d", url, store=str(tmp_path / "units.db"), options=options
        ) as service:
            seen = secrets["reader"]
            wait_until(lambda: service.ask("/api/v1/service", token=seen)["well"], "the subscription")
            vehicle = Vehicle(broker.port)
            try:
                vehicle.say(
                    A1.link(1, online=True), A1.status(1, "available", UTC_MS), A1.emergency(2, UTC_MS)
                )
                wait_until(lambda: len(service.ask("/api/v1/alarms", token=secrets["dispatch"])) == 1)
                yield Room(service, secrets, vehicle)
            finally:
                vehicle.close()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def called(path: str) -> str:
    for name, value in VALUES.items():
        path = path.replace(f"{{{name}}}", value)
    return path + ("" if "days" in path else f"?since={UTC_MS}&until={UTC_MS + 86_400_000}")


def test_every_operation_is_for_the_roles_that_the_document_names_and_for_nobody_else(room: Room) -> None:
    service = room.service
    document = service.ask("/api/openapi.json", token=room.secrets["reader"])
    seen = set()
    for method, path, operation in operations(document):
        if (method, path) in OPEN_TO_ALL:
            continue
        roles = operation.get("x-roles")
        assert roles, f"{method} {path} says nothing of who may do it"
        assert frozenset(roles) in PERMISSIONS.values()
        body = None
        if method == "post":
            name = path.rpartition("/")[2] if "/units/" in path else path
            assert name in BODIES, f"{path}: give this test what makes it a good one"
            body = BODIES[name]
        url = called(path)
        assert service.status_of(url, body, token="nobody") == 401, path
        refused = {role for role in ROLES if role not in roles}
        for role in refused:
            assert service.status_of(url, body, token=room.secrets[role]) == 403, f"{role}: {path}"
        if path == "/api/v1/live":
            continue  # it has no end; the streams have a test of their own
        for role in roles:
            code = service.status_of(url, body, token=room.secrets[role])
            assert code in (200, 404, 409), f"{role}: {path}: {code}"
            seen.add((role, path))
    assert len(seen) > 40


def test_every_action_is_kept_with_who_did_it_and_when(room: Room) -> None:
    service = room.service
    document = service.ask("/api/openapi.json", token=room.secrets["reader"])
    done = 0
    for method, path, operation in operations(document):
        if method != "post" or (method, path) in OPEN_TO_ALL:
            continue
        role = operation["x-roles"][0]
        name = path.rpartition("/")[2] if "/units/" in path else path
        before = service.ask("/api/v1/actions", token=room.secrets["safety"])
        code = service.status_of(called(path), BODIES[name], token=room.secrets[role])
        kept = service.ask("/api/v1/actions", token=room.secrets["safety"])
        if name == "answer" and code == 409:
            continue  # the service itself accepted it before: nothing was done
        assert code == 200, path
        fresh = kept[: len(kept) - len(before)]
        action = "alarm_acknowledge" if "alarms" in path else name
        assert action in {one["action"] for one in fresh}, f"{path} left no trace"
        assert {(one["who"], one["role"], one["unit"]) for one in fresh} == {
            (f"somebody of {role}", role, "A1")
        }
        assert all(one["at_ms"] > UTC_MS for one in fresh)
        done += 1
    assert done >= len(BODIES) - 1


def test_a_stream_holds_back_what_a_role_may_not_read(room: Room) -> None:
    service = room.service
    call = {"incident": "26-7", "address": "1 Secret St", "notes": "the caller's name"}
    service.ask("/api/v1/units/boston-ems/A1/assign", call, token=room.secrets["dispatch"])
    wait_until(
        lambda: service.ask("/api/v1/units", token=room.secrets["dispatch"])[0]["call"] is not None,
        "the call",
    )
    for role, may in (("dispatch", True), ("safety", True), ("fleet", False), ("reader", False)):
        with service.open("/api/v1/live", token=room.secrets[role]) as stream:
            service.ask(
                "/api/v1/units/boston-ems/A1/update",
                call | {"notes": f"for {role}"},
                token=room.secrets["dispatch"],
            )
            text = ""
            while text.count("event: service") < 2:  # one a second
                text += stream.readline().decode()
        assert ("1 Secret St" in text) is may, role
        assert "26-7" in text
        unit = json.dumps(service.ask("/api/v1/units/boston-ems/A1", token=room.secrets[role]))
        assert ("1 Secret St" in unit) is may, role


def test_a_client_certificate_lets_in_as_what_is_written_for_its_name(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    for words in (
        "init",
        "broker 127.0.0.1 localhost",
        "client anna",
        "client mech",
        "client nobody",
        "unit A1",
    ):
        assert mdt_pki(["--folder", str(pki), *words.split()]) == 0
    stranger = tmp_path / "stranger"
    for words in ("init", "client anna"):
        assert mdt_pki(["--folder", str(stranger), *words.split()]) == 0
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        config = configuration(tmp_path, broker)
        with config.open("a") as out:
            out.write(
                "[listen]\n"
                f'certificate_file = "{pki}/broker/broker.crt"\nkey_file = "{pki}/broker/broker.key"\n'
                f'client_ca_file = "{pki}/ca.crt"\n'
                '[[certificates]]\nname = "anna"\nrole = "dispatch"\n'
                '[[certificates]]\nname = "mech"\nrole = "fleet"\n'
            )
        url = f"mqtt://127.0.0.1:{broker.port}"
        process = DispatchProcess(
            tmp_path / "d", url, store=str(tmp_path / "units.db"), options=["--config", str(config)]
        )
        with process as service:
            state = "/api/v1/service"
            wait_until(lambda: json.loads(said(service, pki, "anna", state))["well"], "the subscription")
            vehicle = Vehicle(broker.port)
            try:
                vehicle.say(A1.status(1, "available", UTC_MS))
                ask = "/api/v1/units"
                wait_until(lambda: asked(service, pki, "anna", ask) == 200)
                who = "/api/session"
                assert asked(service, pki, None, ask) == 401
                for name, role in (("anna", "dispatch"), ("mech", "fleet"), ("nobody", None), ("A1", None)):
                    assert asked(service, pki, name, who) == (401 if role is None else 200), name
                wait_until(lambda: "A1" in said(service, pki, "anna", ask))
                text = {"text": "call in"}
                message = "/api/v1/units/boston-ems/A1/message"
                assert asked(service, pki, "anna", message, text) == 200
                assert asked(service, pki, "mech", message, text) == 403
                assert json.loads(said(service, pki, "anna", "/api/v1/actions"))[0]["who"] == "anna"
                with pytest.raises((urllib.error.URLError, OSError)):
                    asked(service, stranger, "anna", who, ca=pki)
            finally:
                vehicle.close()


def context_of(pki: Path, name: str | None, ca: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca / "ca.crt")
    if name is not None:
        context.load_cert_chain(pki / name / f"{name}.crt", pki / name / f"{name}.key")
    return context


def said(
    service: DispatchProcess,
    pki: Path,
    name: str | None,
    path: str,
    body: Any = None,
    *,
    ca: Path | None = None,
) -> str:
    request = urllib.request.Request(  # our own address
        service.url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30, context=context_of(pki, name, ca or pki)) as answer:
        return str(answer.read().decode())


def asked(
    service: DispatchProcess,
    pki: Path,
    name: str | None,
    path: str,
    body: Any = None,
    *,
    ca: Path | None = None,
) -> int:
    try:
        said(service, pki, name, path, body, ca=ca)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200
