"""A certificate authority for rigs, made with the openssl program: also certificates that ended."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


class OpensslUnavailableError(Exception):
    """The openssl program is not installed."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate_file: Path
    key_file: Path


class PrivateCa:
    """An authority in a folder. Raises OpensslUnavailableError when made without openssl."""

    def __init__(self, folder: Path, name: str = "rig authority") -> None:
        if shutil.which("openssl") is None:
            raise OpensslUnavailableError("openssl is not installed (apt-get install openssl)")
        self._folder = folder
        self._name = name
        self._made = 0

    @property
    def ca_file(self) -> Path:
        """The authority's own certificate; made when first asked for."""
        return self._authority().certificate_file

    @property
    def crl_file(self) -> Path:
        """The authority's list of revocations, with nothing on it."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        authority = self._authority()
        key = serialization.load_pem_private_key(authority.key_file.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(certificate.subject)
            .last_update(certificate.not_valid_before_utc)
            .next_update(certificate.not_valid_after_utc)
            .sign(key, hashes.SHA256())  # type: ignore[arg-type]  # openssl made an elliptic curve's key
        )
        file = self._folder / "revoked.crl"
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return file

    def issue(self, name: str, *, alternative_names: str = "", days: int = 30) -> Certificate:
        """A certificate.

        Args:
            name: common name.
            alternative_names: e.g. "IP:127.0.0.1,DNS:localhost"; a server needs them.
            days: until it ends; negative for one that ended.
        """
        authority = self._authority()
        self._made += 1
        stem = self._folder / f"{self._made}-{name}"
        made = Certificate(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        request, extensions = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        lines = ["basicConstraints = CA:FALSE"]
        if alternative_names:
            lines.append(f"subjectAltName = {alternative_names}")
        extensions.write_text("\n".join(lines) + "\n", encoding="ascii")
        self._openssl("req", "-new", *_new_key(made), "-subj", f"/CN={name}", "-out", str(request))
        self._openssl(
            *("x509", "-req", "-in", str(request), "-extfile", str(extensions), "-days", str(days)),
            *("-CA", str(authority.certificate_file), "-CAkey", str(authority.key_file), "-CAcreateserial"),
            *("-out", str(made.certificate_file)),
        )
        return made

    def redated(self, made: Certificate, begins: datetime, ends: datetime) -> Certificate:
        """The same certificate, this authority's own among them, with other dates; its key stays."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        key = serialization.load_pem_private_key(self._authority().key_file.read_bytes(), None)
        before = x509.load_pem_x509_certificate(made.certificate_file.read_bytes())
        builder = (
            x509.CertificateBuilder()
            .subject_name(before.subject)
            .issuer_name(before.issuer)
            .public_key(before.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        for extension in before.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # openssl made an elliptic curve's key
        self._made += 1
        file = self._folder / f"{self._made}-redated.crt"
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return Certificate(file, made.key_file)

    @property
    def authority(self) -> Certificate:
        """The authority's own certificate and key."""
        return self._authority()

    def _authority(self) -> Certificate:
        made = Certificate(self._folder / "ca.crt", self._folder / "ca.key")
        if not made.certificate_file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._openssl(
                *("req", "-x509", *_new_key(made), "-subj", f"/CN={self._name}", "-days", "365"),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", str(made.certificate_file)),
            )
        return made

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OSError(f"openssl {arguments[0]}: {done.stderr.strip()}")


def _new_key(made: Certificate) -> tuple[str, ...]:
    return (
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        str(made.key_file),
    )
