"""The usual order of a run: which status is expected to follow which.

Whatever is pressed is taken; what is not expected is flagged, so that a missed press can be seen later.
"""

from __future__ import annotations

from agent.domain.status import MOMENTARY, UnitStatus

_S = UnitStatus
_FREE = frozenset({_S.AVAILABLE, _S.IN_QUARTERS, _S.OUT_OF_SERVICE})
_ENDS = _FREE | {_S.CANCELLED}

FOLLOWS: dict[UnitStatus, frozenset[UnitStatus]] = {
    _S.DISPATCHED: frozenset({_S.ACKNOWLEDGED, _S.EN_ROUTE}) | _ENDS,
    _S.ACKNOWLEDGED: frozenset({_S.EN_ROUTE}) | _ENDS,
    # A unit may be sent on to another incident while it drives (a diversion).
    _S.EN_ROUTE: frozenset({_S.STAGED, _S.ON_SCENE, _S.DISPATCHED, _S.ACKNOWLEDGED}) | _ENDS,
    _S.STAGED: frozenset({_S.EN_ROUTE, _S.ON_SCENE}) | _ENDS,
    # Without a patient, or after a refusal of transport, the run ends at the scene.
    _S.ON_SCENE: frozenset({_S.AT_PATIENT, _S.TRANSPORTING}) | _ENDS,
    _S.AT_PATIENT: frozenset({_S.TRANSPORTING}) | _ENDS,
    _S.TRANSPORTING: frozenset({_S.AT_DESTINATION}),
    _S.AT_DESTINATION: frozenset({_S.TRANSFER_OF_CARE}) | _FREE,
    _S.TRANSFER_OF_CARE: _FREE,
    _S.AVAILABLE: frozenset({_S.DISPATCHED, _S.ACKNOWLEDGED, _S.EN_ROUTE, _S.ON_SCENE}) | _FREE,
    _S.IN_QUARTERS: frozenset({_S.DISPATCHED, _S.ACKNOWLEDGED, _S.EN_ROUTE}) | _FREE,
    _S.CANCELLED: frozenset({_S.DISPATCHED, _S.ACKNOWLEDGED, _S.EN_ROUTE}) | _FREE,
    _S.OUT_OF_SERVICE: _FREE,
}
"""What may follow each status that is not momentary, without anybody wondering."""

COMMITTED = frozenset(
    {
        _S.DISPATCHED,
        _S.ACKNOWLEDGED,
        _S.EN_ROUTE,
        _S.STAGED,
        _S.ON_SCENE,
        _S.AT_PATIENT,
        _S.TRANSPORTING,
        _S.AT_DESTINATION,
        _S.TRANSFER_OF_CARE,
    }
)
"""The unit belongs to an incident."""

RESPONDING = frozenset({_S.DISPATCHED, _S.ACKNOWLEDGED, _S.EN_ROUTE})
"""On the way to a scene, or about to be."""


def is_expected(previous: str | None, status: str) -> bool:
    """Whether `status` usually follows `previous`; True when nothing was set before.

    A token that this version does not know is never called unexpected.
    """
    if previous is None or status in MOMENTARY or status == previous:
        return True
    follows = FOLLOWS.get(previous)  # type: ignore[call-overload]  # a StrEnum is found by its token
    return follows is None or status not in FOLLOWS or status in follows
