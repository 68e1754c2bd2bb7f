"""python -m hil contract: what other tools want of the contract, made from its tables.

`asyncapi.json` (AsyncAPI 3) of what goes over the broker, `openapi.json` of the service at dispatch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import agent
from agent.dispatch.commands import COMMANDS as ORDERS
from agent.domain.record import Kind, Stream
from agent.domain.state import STATES
from agent.wire.fields import schema
from agent.wire.reader_request import JournalRequest, Receipt, ReplayRequest, Reply
from agent.wire.topics import COMMANDS, NEW_JOURNAL, REPLAY

FOLDER = Path(__file__).resolve().parent.parent / "config" / "contract"
_LEVEL = {"description": "Letters, digits, hyphen and underscore, at most 64."}
_REQUESTS: dict[str, type] = {REPLAY: ReplayRequest, NEW_JOURNAL: JournalRequest}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to (default: config/contract)")


def run(args: argparse.Namespace) -> int:
    """Write all of them."""
    for name, text in documents().items():
        file = args.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(file)
    return 0


def documents() -> dict[str, str]:
    """Every document's text by its name below config/contract."""
    found = {"asyncapi.json": asyncapi(), "openapi.json": openapi()}
    return {name: json.dumps(one, indent=1, ensure_ascii=False) + "\n" for name, one in found.items()}


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON form of every payload, by name."""
    found: dict[str, dict[str, Any]] = {}
    for state in STATES:
        one = schema(state)
        one["properties"] = {"version": {"const": 1}, **one["properties"]}
        one["required"] = ["version", *one["required"]]
        found[f"state-{state.name}"] = one | {
            "title": f"state/{state.name}",
            "description": _first_line(state),
        }
    for kind in Kind:
        found[f"record-{kind.token}"] = schema(kind.body) | {
            "title": f"data of a {kind.token} record",
            "description": _first_line(kind.body),
        }
    found["batch"] = _batch()
    for name, request in {**_REQUESTS, "receipt": Receipt, "reply": Reply}.items():
        found[name] = schema(request) | {"title": name, "description": _first_line(request)}
    for name, order in ORDERS.items():
        if name not in _REQUESTS:
            one = order.fields.model_json_schema()
            one["properties"] = {"id": {"type": "string", "maxLength": 64}, **one["properties"]}
            found[f"command-{name}"] = one | {"description": order.sentence, "additionalProperties": True}
    return found


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3 with MQTT bindings."""
    made = schemas()
    channels: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    operations: dict[str, Any] = {}

    def channel(
        name: str, address: str, payload: dict[str, Any], *, action: str, retain: bool, text: str
    ) -> None:
        messages[name] = {
            "name": name,
            "contentType": "application/json",
            "summary": text,
            "payload": payload,
        }
        channels[name] = {
            "address": f"ems/v1/{{agency}}/{{unit}}/{address}",
            "parameters": {"agency": _LEVEL, "unit": _LEVEL},
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        operations[f"{action}-{name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": text,
            "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
            "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": "0.2.0"}},
        }

    def ref(name: str) -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{name}"}

    for state in STATES:
        name = f"state-{state.name}"
        channel(name, f"state/{state.name}", ref(name), action="send", retain=True, text=_first_line(state))
    for stream in Stream:
        text = f"Batches of the {stream.value}; see docs/wire-format.md for the compact form."
        channel(
            f"journal-{stream.value}",
            f"journal/{stream.value}",
            ref("batch"),
            action="send",
            retain=False,
            text=text,
        )
    for name, text in COMMANDS.items():
        known = name if name in _REQUESTS else f"command-{name}"
        payload = ref(known) if known in made else {"type": "object"}
        channel(f"command-{name}", f"command/{name}", payload, action="receive", retain=False, text=text)
        channel(
            f"reply-{name}",
            f"reply/{name}",
            ref("reply"),
            action="send",
            retain=False,
            text=f"The answer to {name}.",
        )
    channel("receipt", "receipt", ref("receipt"), action="receive", retain=False, text=_first_line(Receipt))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Ambulance telematics",
            "version": "1",
            "description": "What a unit sends and is told, seen from the unit; see docs/wire-format.md.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": made},
    }


def openapi() -> dict[str, Any]:
    """OpenAPI of the service at dispatch, as it tells it itself."""
    from agent.dispatch.access import Access
    from agent.dispatch.api import create_app
    from agent.dispatch.service import Service
    from agent.dispatch.settings import DispatchFile
    from agent.dispatch.store.engine import engine_of

    settings = DispatchFile.model_validate({"broker": {"host": "localhost", "allow_plaintext": True}})
    service = Service(settings, engine_of("not-opened.db"), _no_source, lambda: 0)
    made = create_app(service, Access(())).openapi()
    made["info"]["version"] = agent.__version__
    return made


def _no_source(*_: Any) -> Any:
    raise NotImplementedError


def _batch() -> dict[str, Any]:
    record = {
        "type": "object",
        "properties": {
            "unit": {"type": "string"},
            "stream": {"enum": [stream.value for stream in Stream]},
            "seq": {"type": "integer", "minimum": 1},
            "journal": {"type": "integer", "minimum": 0, "maximum": 0xFFFF_FFFF},
            "boot": {"type": "integer", "minimum": 0},
            "boottime_ms": {"type": "integer", "minimum": 0},
            "utc": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
            "utc_source": {"type": "string"},
            "utc_uncertainty_ms": {"type": ["integer", "null"]},
            "kind": {"type": ["string", "null"]},
            "kind_number": {"type": "integer"},
            "data": {
                "type": "object",
                "description": "By the schema record-{kind}; of an unknown kind anything.",
            },
        },
        "required": ["unit", "stream", "seq", "journal", "boot", "boottime_ms", "kind", "data"],
    }
    return {
        "title": "journal/{stream}",
        "type": "object",
        "properties": {
            "version": {"const": 1},
            "history": {"type": "boolean"},
            "replay": {"type": "boolean"},
            "records": {"type": "array", "minItems": 1, "items": record},
        },
        "required": ["version", "history", "replay", "records"],
    }


def _first_line(of: type) -> str:
    return (of.__doc__ or "").strip().partition("\n")[0]
