"""python -m hil.contract_tables: the parts of the contract that are made from the tables of kinds and fields.

The tables in docs/wire-format.md between their marks, config/contract/schemas.json and tokens.json.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.domain.field import Token
from agent.domain.health import HealthReason
from agent.domain.record import (
    AlertCode,
    CallStep,
    CodeStage,
    Contradicts,
    CrewStep,
    Crossing,
    DrivingKind,
    EvidenceRecord,
    GapReason,
    HintRule,
    IdleNeed,
    Kind,
    Leg,
    Made,
    MotionWord,
    OdometerSource,
    Outcome,
    Position,
    PositionQuality,
    ResponseMode,
    StatusFlag,
    VehicleWarning,
)
from agent.domain.state import STATES
from agent.domain.status import UnitStatus
from agent.wire.fields import Row, layout, schema
from agent.wire.reader_request import (
    JournalRequest,
    Receipt,
    RefusalReason,
    ReplayRequest,
    Reply,
    ReportRequest,
)
from agent.wire.topics import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "wire-format.md"
FOLDER = ROOT / "config" / "contract"
REQUESTS: dict[str, type[Any]] = {
    "command/replay": ReplayRequest,
    "command/new-journal": JournalRequest,
    "command/report-now": ReportRequest,
    "receipt": Receipt,
    "reply/{command}": Reply,
}
TOKENS: dict[str, type[Token]] = {
    "unit status": UnitStatus,
    "health reason": HealthReason,
    "alert code": AlertCode,
    "gap reason": GapReason,
    "refusal of a request": RefusalReason,
    "outcome": Outcome,
    "made": Made,
    "flag of a status": StatusFlag,
    "motion": MotionWord,
    "contradiction": Contradicts,
    "quality of a position": PositionQuality,
    "step of a call or message": CallStep,
    "crossing": Crossing,
    "step of the crew": CrewStep,
    "stage of a trouble code": CodeStage,
    "leg of a run": Leg,
    "warning of the vehicle": VehicleWarning,
    "need of an idling engine": IdleNeed,
    "driving": DrivingKind,
    "rule of a hint": HintRule,
    "response mode": ResponseMode,
    "source of an odometer": OdometerSource,
}


def files() -> dict[Path, str]:
    """Every file as it should be."""
    document = DOCUMENT.read_text(encoding="utf-8")
    for name, text in {"kinds": _kinds(), "states": _states(), "requests": _requests()}.items():
        marks = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- {name} end -->)", re.DOTALL)
        document = marks.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", document)  # type: ignore[misc]  # default
    return {
        DOCUMENT: document,
        FOLDER / "schemas.json": json.dumps(_schemas(), indent=1, ensure_ascii=False) + "\n",
        FOLDER / "tokens.json": json.dumps(_tokens(), indent=1, ensure_ascii=False) + "\n",
    }


def main() -> int:
    """Write what is not as it should be."""
    for path, text in files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


def _kinds() -> str:
    lines = [
        "| kind | number | stream | committed | given up | what it tells |",
        "|---|---|---|---|---|---|",
    ]
    for kind in Kind:
        committed = "at once" if kind.durable_at_once else "in groups"
        order = "never" if kind.given_up is None else str(kind.given_up)
        streams = " or ".join(kind.streams)
        lines.append(
            f"| `{kind.token}` | {kind.value} | {streams} | {committed} | {order} "
            f"| {_first_sentence(kind.body)} |"
        )
    lines += [
        "",
        "The lower the number under *given up*, the earlier undelivered records go when the store is full.",
    ]
    for kind in Kind:
        lines += ["", f"### `{kind.token}`", _first_sentence(kind.body), "", *_table(layout(kind.body).rows)]
    for name, of in {"An evidence": EvidenceRecord}.items():
        lines += ["", f"### {name}", _first_sentence(of), "", *_table(layout(of).rows)]
    return "\n".join(lines)


def _states() -> str:
    lines: list[str] = []
    for state in STATES:
        lines += [f"### `state/{state.name}`", _first_sentence(state), "", *_table(layout(state).rows), ""]
    return "\n".join(lines[:-1])


def _requests() -> str:
    lines = ["| command | what for |", "|---|---|"]
    lines += [f"| `{name}` | {sentence} |" for name, sentence in COMMANDS.items()]
    for topic, of in REQUESTS.items():
        lines += ["", f"### `{topic}`", _first_sentence(of), "", *_table(layout(of).rows)]
    return "\n".join(lines)


def _table(rows: Iterable[Row]) -> list[str]:
    lines = ["| | field | type | unit | scale | meaning |", "|---|---|---|---|---|---|"]
    for at, row in enumerate(rows):
        kind = row.form.name + (" or null" if row.nullable else "")
        scale = f"{row.row.scale:g}" if row.row.scale else ""
        words = _words(row.row.tokens)
        since = f" Since revision {row.row.since}." if row.row.since > 1 else ""
        lines.append(
            f"| {at} | `{row.name}` | {kind} | {row.row.unit} | {scale} | {row.row.sentence}{words}{since} |"
        )
    return lines


def _words(tokens: type[Token] | None) -> str:
    """The tokens of a field; the long lists stand in tokens.json."""
    if tokens is None or tokens in (HealthReason, AlertCode, UnitStatus):
        return ""
    return f" Tokens: {', '.join(f'`{one}`' for one in tokens)}."


def _first_sentence(of: type[Any]) -> str:
    paragraph = (of.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def _schemas() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The JSON form of bodies (data of a record), states, requests and replies",
        "$defs": {
            **{f"record.{kind.token}": schema(kind.body) for kind in Kind},
            **{f"state.{state.name}": schema(state) for state in STATES},
            **{topic: schema(of) for topic, of in REQUESTS.items()},
            "position": schema(Position),
        },
    }


def _tokens() -> dict[str, dict[str, str]]:
    return {name: {one.value: one.sentence for one in of} for name, of in TOKENS.items()}


if __name__ == "__main__":
    sys.exit(main())
