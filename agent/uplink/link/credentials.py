"""Certificates, keys and passwords: read at each opening, judged by the best UTC, watched for their end."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from agent.config import Broker, Tls
from agent.domain.stamp import Utc, UtcSource

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""(path, inode, modification time in ns, size) of each credential file; -1 for a file that is not there."""

WARN_BEFORE_S = 14 * 86_400
"""How long before its end a certificate is told of."""

CLOCK_AGREES_WITHIN_S = 60.0
"""A system clock that is no further from a trusted UTC may judge certificates itself."""
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: all is verified but the dates. Python has no name for it."""
_SEQUENCE = 0x30
_CONTEXT_0 = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_LONG_FORM = 0x80


class DatesError(Exception):
    """A certificate of the broker's chain is not valid at the time it is judged by; says which and why."""


def judged_at_unix_s(utc: Utc | None, system_unix_s: float) -> float | None:
    """By which time dates of certificates are to be judged by us; None to leave that to the system clock.

    It is left to it when it agrees with the best UTC, and where no UTC is trusted.
    """
    if utc is None or utc.source < UtcSource.NTP:
        return None
    unix_s = utc.unix_ms / 1000
    return None if abs(unix_s - system_unix_s) <= CLOCK_AGREES_WITHIN_S else unix_s


def tls_context(tls: Tls, judged_at_unix_s: float | None = None) -> ssl.SSLContext:
    """A client's context from the files as they are now; the server's name and chain are always verified.

    Args:
        tls: which files.
        judged_at_unix_s: the true time, when the system clock has another one. OpenSSL then looks at no date:
            whoever uses the context calls `check_dates` of the verified chain before a byte is sent. Of the
            authorities only those are taken that are valid at that time, as OpenSSL would: of one that was
            renewed under its old name it might else find the old certificate.

    Raises:
        OSError: a file can not be read, or holds no certificate or key (ssl.SSLError is one).
        ValueError: no authority of the file is valid at that time.
    """
    context = _client_context(tls.ca_file, judged_at_unix_s)
    if judged_at_unix_s is not None:
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    if tls.certificate_file is not None:
        # Without a password of its own OpenSSL would ask for one on the terminal, and wait there for ever.
        context.load_cert_chain(tls.certificate_file, tls.key_file, password="")
    return context


def _client_context(ca_file: Path | None, judged_at_unix_s: float | None) -> ssl.SSLContext:
    if ca_file is None:
        return ssl.create_default_context()
    if judged_at_unix_s is not None:
        authorities = _certificates(ca_file)
        valid = [der for der in authorities if not _dates_problem(der, judged_at_unix_s)]
        if authorities and not valid:
            raise ValueError(f"{ca_file}: no authority is valid on {_day(judged_at_unix_s)}")
        if len(valid) < len(authorities):
            return ssl.create_default_context(cadata=b"".join(valid))
    return ssl.create_default_context(cafile=str(ca_file))


def verified_chain(sock: ssl.SSLSocket) -> list[bytes]:
    """The chain that OpenSSL verified, from the peer's own certificate to the authority, in DER.

    Empty when it can not be told. Python has a public name for it from 3.13 on.
    """
    public = getattr(sock, "get_verified_chain", None)
    if public is not None:
        return [bytes(der) for der in public()]
    inner = getattr(getattr(sock, "_sslobj", None), "get_verified_chain", None)
    certificates = None if inner is None else inner()
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in certificates or ()]


def check_dates(chain: Sequence[bytes], at_unix_s: float) -> None:
    """Refuse a verified chain of which a certificate is not valid at that time, or can not be read.

    Raises:
        DatesError: which one, and why.
    """
    if not chain:
        raise DatesError("its chain can not be read, and so nobody can tell whether it is valid")
    for index, der in enumerate(chain):
        problem = _dates_problem(der, at_unix_s)
        if problem:
            raise DatesError(problem if index == 0 else f"its authority's: {problem}")


def _dates_problem(der: bytes, at_unix_s: float) -> str:
    try:
        begins, ends = _validity(der)
    except ValueError as error:
        return f"its dates can not be read: {error}"
    if at_unix_s < begins:
        return f"not yet valid: it begins on {_day(begins)}, and it is {_day(at_unix_s)}"
    if at_unix_s > ends:
        return f"expired: it ended on {_day(ends)}, and it is {_day(at_unix_s)}"
    return ""


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).date().isoformat()


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
    ends = [_validity(der)[1] for der in _certificates(file)]
    if not ends:
        raise ValueError(f"{file}: no certificate")
    return max(ends) if latest else min(ends)


def _certificates(file: Path) -> list[bytes]:
    """The certificates of a PEM file, in DER. Raises OSError, or ValueError for one that is mangled."""
    text = file.read_text(encoding="ascii", errors="replace")
    found = []
    for part in text.split("-----BEGIN CERTIFICATE-----")[1:]:
        body, mark, _ = part.partition("-----END CERTIFICATE-----")
        if not mark:
            break
        found.append(
            ssl.PEM_cert_to_DER_cert(f"-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n")
        )
    return found


def _validity(der: bytes) -> tuple[int, int]:
    """Begin and end of an X.509 certificate in Unix seconds (RFC 5280, 4.1): tbsCertificate > validity."""
    try:
        _, certificate, _ = _element(der)
        _, rest, _ = _element(certificate)
        tag, _, after = _element(rest)
        if tag == _CONTEXT_0:  # explicit version; serial number is next
            rest = after
        for _ in range(3):  # serial number, signature algorithm, issuer
            _, _, rest = _element(rest)
        _, validity, _ = _element(rest)
        begin_tag, begin, after_begin = _element(validity)
        end_tag, end, _ = _element(after_begin)
        return _time(begin_tag, begin), _time(end_tag, end)
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
