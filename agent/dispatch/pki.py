"""A private authority in a folder: certificates for brokers, units and programs, and what was revoked.

The common name of a certificate is the user name of the broker's access rules: a vehicle is its certificate.
Every key is made here, lies in files that only their owner reads, and goes to its place in one bundle.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 20 * 365
LEAF_DAYS = 825
"""Two years and a quarter: renewed at every second yearly service, with time to spare."""
BACKDATE = timedelta(hours=1)
"""A vehicle without a clock chip may be a little behind when it first looks at a certificate."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
RESERVED = frozenset({"broker", "dispatch", "watch", "fleet", "safety", "readers"})
"""Names of the broker and of its access rules: no vehicle may be called so."""
CRL_FILE = "revoked.crl"
_INDEX = "index.json"
_KEY_MODE, _FOLDER_MODE = 0o600, 0o700


class PkiError(Exception):
    """What was asked for can not be; the text says why."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate.

    Attributes:
        name: common name.
        kind: "broker", "unit" or "client".
        serial: serial number.
        not_after: when it ends, ISO 8601.
        hosts: names and addresses of a broker.
        revoked: when it was revoked, ISO 8601; None while it counts.
    """

    name: str
    kind: str
    serial: int
    not_after: str
    hosts: tuple[str, ...] = ()
    revoked: str | None = None


class Authority:
    """An authority in a folder.

    Args:
        folder: where its files are.
        now: the time.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._now = now

    @property
    def certificate_file(self) -> Path:
        """The authority's own certificate, which everybody may have."""
        return self._folder / "ca.crt"

    @property
    def crl_file(self) -> Path:
        """What was revoked; the broker's `crlfile`."""
        return self._folder / CRL_FILE

    def init(self, name: str) -> None:
        """Make it, with an empty list of revocations. Raises PkiError when there is one already."""
        if self.certificate_file.exists() or (self._folder / "ca.key").exists():
            raise PkiError(f"{self._folder} has an authority already; it is never overwritten")
        self._folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        self._folder.chmod(_FOLDER_MODE)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = self._now()
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_private(self._folder / "ca.key", _pem_of(key))
        _write(self.certificate_file, made.public_bytes(serialization.Encoding.PEM))
        self._save([])
        self._write_crl([])

    def broker(self, hosts: Sequence[str], days: int = LEAF_DAYS) -> Path:
        """Folder with broker.crt and broker.key for a broker under these names and addresses."""
        if not hosts:
            raise PkiError("a broker needs at least one host name or address that vehicles know it by")
        return self._issue("broker", "broker", tuple(hosts), days)

    def unit(self, name: str, days: int = LEAF_DAYS) -> Path:
        """Folder with the unit's certificate and key, and NAME.tar for the vehicle."""
        if name in RESERVED:
            raise PkiError(f"{name} is a name of the broker's access rules: no unit may be called so")
        return self._issue(name, "unit", (), days)

    def client(self, name: str, days: int = LEAF_DAYS) -> Path:
        """Folder with the certificate and key of a program or person at dispatch."""
        return self._issue(name, "client", (), days)

    def renew(self, name: str, days: int = LEAF_DAYS) -> Path:
        """A fresh certificate and key for a name that has one; the old one counts until it ends."""
        found = [one for one in self.issued() if one.name == name and one.revoked is None]
        if not found:
            raise PkiError(f"{name} has no certificate that counts")
        return self._issue(name, found[-1].kind, found[-1].hosts, days, again=True)

    def revoke(self, name: str, *, but_newest: bool = False) -> int:
        """Block every certificate of a name; returns how many. The broker must be told to read the list."""
        issued = self.issued()
        of_name = [one for one in issued if one.name == name and one.revoked is None]
        blocked = of_name[:-1] if but_newest else of_name
        if not blocked:
            raise PkiError(f"{name} has no certificate to revoke")
        now = self._now().isoformat(timespec="seconds")
        serials = {one.serial for one in blocked}
        kept = [_revoked(one, now) if one.serial in serials else one for one in issued]
        self._write_crl(kept)
        self._save(kept)
        return len(blocked)

    def issued(self) -> list[Issued]:
        """Every certificate that was ever made, oldest first."""
        try:
            rows = json.loads((self._folder / _INDEX).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise PkiError(f"{self._folder} has no authority; make one with `mdt-pki init`") from error
        return [Issued(**row | {"hosts": tuple(row["hosts"])}) for row in rows]

    def _issue(self, name: str, kind: str, hosts: tuple[str, ...], days: int, *, again: bool = False) -> Path:
        if not NAME.fullmatch(name):
            raise PkiError(f"{name!r}: letters, digits, hyphen and underscore only, at most 64")
        issued = self.issued()
        if not again and any(one.name == name and one.revoked is None for one in issued):
            raise PkiError(
                f"{name} has a certificate that counts: `mdt-pki renew {name}`, or revoke it first"
            )
        authority_key, authority = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        ends = min(now + timedelta(days=days), authority.not_valid_after_utc)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if kind == "broker" else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE if days > 0 else ends - timedelta(days=1))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(one) for one in hosts]), critical=False
            )
        made = builder.sign(authority_key, hashes.SHA256())
        folder = self._folder / name
        folder.mkdir(exist_ok=True, mode=_FOLDER_MODE)
        certificate, key_pem = made.public_bytes(serialization.Encoding.PEM), _pem_of(key)
        _write_private(folder / f"{name}.key", key_pem)
        _write(folder / f"{name}.crt", certificate)
        _write(folder / "ca.crt", self.certificate_file.read_bytes())
        if kind != "broker":
            bundle = {
                "ca.pem": self.certificate_file.read_bytes(),
                "client.pem": certificate,
                "client.key": key_pem,
            }
            _write_private(folder / f"{name}.tar", _tar(bundle))
        row = Issued(name, kind, made.serial_number, ends.isoformat(timespec="seconds"), hosts)
        self._save([*issued, row])
        return folder

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        try:
            key = serialization.load_pem_private_key((self._folder / "ca.key").read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        except (OSError, ValueError) as error:
            raise PkiError(
                f"the authority in {self._folder} can not be read: {type(error).__name__}"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PkiError(f"{self._folder / 'ca.key'} is no key of ours")
        return key, certificate

    def _write_crl(self, issued: Sequence[Issued]) -> None:
        """The list ends with the authority: one that had ended would keep every vehicle out."""
        key, authority = self._load()
        now = self._now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now - BACKDATE)
            .next_update(authority.not_valid_after_utc)
        )
        for one in issued:
            if one.revoked is not None:
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder()
                    .serial_number(one.serial)
                    .revocation_date(datetime.fromisoformat(one.revoked))
                    .build()
                )
        _write(self.crl_file, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _save(self, issued: Sequence[Issued]) -> None:
        text = json.dumps([asdict(one) for one in issued], indent=1)
        _write(self._folder / _INDEX, text.encode())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not re.fullmatch(r"[A-Za-z0-9*]([A-Za-z0-9.-]{0,252})", text):
        raise PkiError(f"{text!r} is no host name or address")
    return x509.DNSName(text)


def _revoked(one: Issued, now: str) -> Issued:
    return Issued(one.name, one.kind, one.serial, one.not_after, one.hosts, now)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), _KEY_MODE
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _write_private(path: Path, content: bytes) -> None:
    """Nobody else can read it at any moment, and it is whole or the old one."""
    _replace(path, content, _KEY_MODE)


def _write(path: Path, content: bytes) -> None:
    _replace(path, content, 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(mode)
    fresh.replace(path)


def now_utc(unix_ms: int) -> datetime:
    """A time for an authority, to the second, as certificates have it."""
    return datetime.fromtimestamp(unix_ms // 1000, UTC)
