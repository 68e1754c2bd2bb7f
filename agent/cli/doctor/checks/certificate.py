"""Is the certificate this unit's own, does its key fit, and does it last?"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

from agent.cli.daemon_time import trusted_unix_s
from agent.cli.doctor.finding import Finding, Patient, Say
from agent.config import Tls
from agent.uplink.link.credentials import WARN_BEFORE_S, expires_unix_s, tls_context

_THIS_COMPUTER = ("127.0.0.1", "::1", "localhost")
_COMMON_NAME = bytes.fromhex("0603550403")
"""DER of the attribute type commonName (2.5.4.3); its string follows."""


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    from firmware_shims.system_clock import SystemClock

    # The agent judges by the best time that it has (docs/decisions/0065): so does this, beside it.
    now_s = trusted_unix_s(patient.status) or SystemClock().system_utc().unix_ms / 1000
    for broker in patient.known.uplink.brokers:
        if broker.tls is None and broker.host in _THIS_COMPUTER:
            yield say.good(broker.host, "the broker is on this computer")
        elif broker.tls is None:
            yield say.bad(
                broker.host, "the way to it is not encrypted", "give it a [uplink.brokers.tls] table"
            )
        else:
            yield from _of_broker(broker.host, broker.tls, patient.known.unit.unit, now_s, say)


def _of_broker(host: str, tls: Tls, unit: str, now_s: float, say: Say) -> Iterator[Finding]:
    try:
        tls_context(tls)
    except ssl.SSLError as error:
        yield say.bad(
            host, f"certificate and key do not fit: {error.reason or error}", "fetch both again, together"
        )
        return
    except OSError as error:
        yield say.bad(host, f"can not be read: {error}", "put the files there, for the group mdt")
        return
    if tls.certificate_file is None:
        yield say.unknown(
            host, "the unit has no certificate of its own", "no harm when the broker asks for a password"
        )
        return
    names = common_names(tls.certificate_file.read_text(encoding="ascii", errors="replace"))
    if unit not in names:
        yield say.bad(
            host, f"the certificate is of {' or '.join(names) or 'nobody'}, and this unit is {unit}",
            "fetch this unit's own certificate, or correct [unit]",
        )  # fmt: skip
    end_s = expires_unix_s(tls.certificate_file)
    day = datetime.fromtimestamp(end_s, UTC).date().isoformat()
    if end_s <= now_s:
        yield say.bad(host, f"the certificate ended on {day}", "fetch a new one")
    elif end_s - now_s < WARN_BEFORE_S:
        yield say.bad(host, f"the certificate ends on {day}", "fetch a new one in time")
    elif unit in names:
        yield say.good(host, f"the certificate is of {unit} and lasts until {day}")


def common_names(pem: str) -> list[str]:
    """The common name of the owner of a PEM file's first certificate, which stands behind the authority's."""
    body = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END CERTIFICATE-----")[0]
    der = ssl.PEM_cert_to_DER_cert(f"-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n")
    names = []
    at = der.find(_COMMON_NAME)
    while at >= 0:
        length = der[at + len(_COMMON_NAME) + 1]
        start = at + len(_COMMON_NAME) + 2
        names.append(der[start : start + length].decode("utf-8", errors="replace"))
        at = der.find(_COMMON_NAME, start)
    return names[-1:]
