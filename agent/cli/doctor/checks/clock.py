"""Does the computer know what time it is?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from agent.cli.doctor.finding import Finding, Patient, Say


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    if patient.status is not None:
        source = str(patient.status.get("clock", {}).get("utc_source", "none"))
        if source in ("gnss", "ntp"):
            yield say.good("", f"the agent has its time from {source.upper()}")
        else:
            yield say.bad(
                "",
                "the agent trusts no source of time",
                "let the receiver see the sky, or give it a time server",
            )
    from firmware_shims.system_clock import SystemClock

    system = SystemClock().system_utc()
    now = datetime.fromtimestamp(system.unix_ms / 1000, UTC).isoformat(timespec="seconds")
    if system.synchronised:
        yield say.good("system", f"{now}, synchronised")
    else:
        yield say.unknown(
            "system", f"{now}, not synchronised by a time server", "no harm when the receiver has a fix"
        )
