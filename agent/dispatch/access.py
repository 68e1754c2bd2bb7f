"""Who may do what: roles by token or by client certificate."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from agent.dispatch.settings import CertificateRole, Role, Token

PERMISSIONS: dict[str, frozenset[Role]] = {
    "live": frozenset({"dispatch", "fleet", "safety", "reader"}),
    "events": frozenset({"dispatch", "safety"}),
    "tracks": frozenset({"dispatch", "fleet", "safety"}),
    "vehicle": frozenset({"dispatch", "fleet"}),
    "statistics": frozenset({"dispatch", "fleet", "safety"}),
    "actions": frozenset({"dispatch", "safety"}),
    "alarm": frozenset({"dispatch"}),
    "command": frozenset({"dispatch"}),
    "answer": frozenset({"dispatch"}),
    "vehicle_command": frozenset({"dispatch", "fleet"}),
    "fleet_command": frozenset({"fleet"}),
}
"""What may be done, and by whom."""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who came in.

    Attributes:
        name: of the token or certificate; stands beside every action.
        role: what they are.
    """

    name: str
    role: Role

    def may(self, permission: str) -> bool:
        """Whether the role has it. Raises KeyError for a permission that there is not."""
        return self.role in PERMISSIONS[permission]


class Access:
    """Tells who somebody is. Thread-safe."""

    def __init__(self, tokens: Sequence[Token], certificates: Sequence[CertificateRole] = ()) -> None:
        self._tokens = tuple(tokens)
        self._certificates = {one.name: one.role for one in certificates}

    def by_token(self, given: str) -> Who | None:
        """Who holds this token; every known one is compared, so that time tells nothing."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, digest):
                found = Who(token.name, token.role)
        return found

    def by_certificate(self, common_name: str) -> Who | None:
        """Who a verified certificate is; None for one that is not listed.

        The authority signs vehicles' certificates, too: one stolen with its vehicle opens nothing here.
        """
        role = self._certificates.get(common_name)
        return None if role is None else Who(common_name, role)


def new_token(name: str, role: Role) -> tuple[str, Token]:
    """A fresh secret and the row of the configuration that lets it in."""
    secret = secrets.token_urlsafe(24)
    return secret, Token(name=name, role=role, sha256=hashlib.sha256(secret.encode()).hexdigest())
