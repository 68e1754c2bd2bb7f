"""Unit status: the tokens on the wire."""

from __future__ import annotations

from enum import StrEnum


class UnitStatus(StrEnum):
    """What the unit is doing; each token's NEMSIS v3.5 time element stands beside it."""

    DISPATCHED = "dispatched"
    """eTimes.03"""
    ACKNOWLEDGED = "acknowledged"
    """eTimes.04"""
    EN_ROUTE = "en_route"
    """eTimes.05"""
    STAGED = "staged"
    """eTimes.17"""
    ON_SCENE = "on_scene"
    """eTimes.06"""
    AT_PATIENT = "at_patient"
    """eTimes.07"""
    TRANSPORTING = "transporting"
    """eTimes.09"""
    AT_DESTINATION = "at_destination"
    """eTimes.11"""
    TRANSFER_OF_CARE = "transfer_of_care"
    """eTimes.12"""
    AVAILABLE = "available"
    """eTimes.13"""
    IN_QUARTERS = "in_quarters"
    """eTimes.15"""
    CANCELLED = "cancelled"
    """eTimes.14"""
    OUT_OF_SERVICE = "out_of_service"
    TALK_REQUEST = "talk_request"


MOMENTARY = frozenset({UnitStatus.TALK_REQUEST})
"""Not something the unit is: the status before it stays in force, and it may be sent again and again."""
