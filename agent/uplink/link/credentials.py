"""Certificates, keys and passwords: read at each opening, watched for changes and for their end."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from agent.config import Broker, Tls

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""(path, inode, modification time in ns, size) of each credential file; -1 for a file that is not there."""

WARN_BEFORE_S = 14 * 86_400
"""How long before its end a certificate is told of."""

_SEQUENCE = 0x30
_CONTEXT_0 = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_LONG_FORM = 0x80


def tls_context(tls: Tls) -> ssl.SSLContext:
    """A client's context from the files as they are now; the server's name and chain are always verified.

    Raises:
        OSError: a file can not be read, or holds no certificate or key (ssl.SSLError is one).
    """
    context = ssl.create_default_context(cafile=None if tls.ca_file is None else str(tls.ca_file))
    if tls.certificate_file is not None:
        # Without a password of its own OpenSSL would ask for one on the terminal, and wait there for ever.
        context.load_cert_chain(tls.certificate_file, tls.key_file, password="")
    return context


def credential_files(broker: Broker) -> tuple[Path, ...]:
    """The files that an opening of this broker reads."""
    tls, password = broker.tls, broker.password
    files = [] if tls is None else [tls.ca_file, tls.certificate_file, tls.key_file]
    return tuple(file for file in [*files, None if password is None else password.file] if file is not None)


def fingerprint(files: tuple[Path, ...]) -> Fingerprint:
    """What changes when one of the files does."""
    marks = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            marks.append((str(file), -1, -1, -1))
        else:
            marks.append((str(file), status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(marks)


def expires_unix_s(file: Path, *, latest: bool = False) -> int:
    """The earliest end of the certificates in a PEM file, or the latest, in Unix seconds.

    Raises:
        OSError: it can not be read.
        ValueError: it holds no certificate.
    """
    text = file.read_text(encoding="ascii", errors="replace")
    ends = []
    for part in text.split("-----BEGIN CERTIFICATE-----")[1:]:
        body, mark, _ = part.partition("-----END CERTIFICATE-----")
        if not mark:
            break
        der = ssl.PEM_cert_to_DER_cert(f"-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n")
        ends.append(_not_after(der))
    if not ends:
        raise ValueError(f"{file}: no certificate")
    return max(ends) if latest else min(ends)


def _not_after(der: bytes) -> int:
    """End of validity of an X.509 certificate (RFC 5280, 4.1): tbsCertificate > validity > notAfter."""
    try:
        _, certificate, _ = _element(der)
        _, rest, _ = _element(certificate)
        tag, _, after = _element(rest)
        if tag == _CONTEXT_0:  # explicit version; serial number is next
            rest = after
        for _ in range(3):  # serial number, signature algorithm, issuer
            _, _, rest = _element(rest)
        _, validity, _ = _element(rest)
        _, _, after_start = _element(validity)
        tag, end, _ = _element(after_start)
        return _time(tag, end)
    except IndexError:
        raise ValueError("not a certificate") from None


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and what follows of the first DER element (X.690, 8.1)."""
    tag, length, start = der[0], der[1], 2
    if length & _LONG_FORM:
        start += length & ~_LONG_FORM
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("not a certificate")
    return tag, der[start : start + length], der[start + length :]


def _time(tag: int, text: bytes) -> int:
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(tag)
    if form is None:
        raise ValueError("not a time")
    # A two-digit year below 69 is read as 20xx, as RFC 5280 does below 50, close enough.
    return round(datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp())


class CertificateFiles:
    """The certificate files of a configuration; each is read when it is new or has changed, and only then."""

    def __init__(self, authorities: Sequence[Path], certificates: Sequence[Path]) -> None:
        """Store the parts.

        Args:
            authorities: files of authorities to trust. One lasts as long as its last authority does: a bundle
                has many that have nothing to do with our broker, and old ones beside their successors.
            certificates: our own, each with its chain. One lasts as long as its first certificate to end.
        """
        self._files = [("authority", file) for file in authorities]
        self._files += [("certificate", file) for file in certificates]
        self._ends: dict[tuple[str, Path], tuple[Fingerprint, int]] = {}

    def expiring(self, server: tuple[str, int] | None, now_unix_s: float) -> list[str]:
        """Sentences about certificates that end within 14 days, or can not be read.

        Args:
            server: the broker's endpoint and the end of its certificate in Unix seconds, when known.
            now_unix_s: a trusted UTC.
        """
        ends: list[tuple[str, int]] = []
        sentences = []
        for what, file in self._files:
            try:
                ends.append((f"{what} {file}", self._end(what, file)))
            except (OSError, ValueError) as error:
                sentences.append(f"{what} {file} can not be read: {error}")
        if server is not None:
            ends.append((f"certificate of {server[0]}", server[1]))
        for what, end in ends:
            if end - now_unix_s < WARN_BEFORE_S:
                day = datetime.fromtimestamp(end, UTC).date().isoformat()
                sentences.append(f"{what} {'ended' if end <= now_unix_s else 'ends'} on {day}")
        return sentences

    def _end(self, what: str, file: Path) -> int:
        mark = fingerprint((file,))
        known = self._ends.get((what, file))
        if known is None or known[0] != mark:
            known = self._ends[what, file] = (mark, expires_unix_s(file, latest=what == "authority"))
        return known[1]
