"""Unit status: the tokens on the wire."""

from __future__ import annotations

import re

from agent.domain.field import Token


class UnitStatus(Token):
    """What the unit is doing; the NEMSIS v3.5 time element is in brackets."""

    DISPATCHED = "dispatched", "The unit was notified of a call (eTimes.03)."
    ACKNOWLEDGED = "acknowledged", "The crew acknowledged the call (eTimes.04)."
    EN_ROUTE = "en_route", "The vehicle started moving to the scene (eTimes.05)."
    STAGED = "staged", "Waiting in the staging area (eTimes.17)."
    ON_SCENE = "on_scene", "The vehicle stopped at the scene (eTimes.06)."
    AT_PATIENT = "at_patient", "The crew is with the patient (eTimes.07)."
    TRANSPORTING = "transporting", "The vehicle left the scene with the patient (eTimes.09)."
    AT_DESTINATION = "at_destination", "The patient arrived at the destination (eTimes.11)."
    TRANSFER_OF_CARE = "transfer_of_care", "The patient was handed over (eTimes.12)."
    AVAILABLE = "available", "Back in service, and free for a call (eTimes.13)."
    IN_QUARTERS = "in_quarters", "Back at its station or post (eTimes.15)."
    CANCELLED = "cancelled", "The call was cancelled for this unit (eTimes.14)."
    OUT_OF_SERVICE = "out_of_service", "Not to be sent; the reason says why."
    TALK_REQUEST = "talk_request", "The crew asks to be called; the status before stays in force."


REASON = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""A word from the agency's lists of reasons."""

MOMENTARY = frozenset({UnitStatus.TALK_REQUEST})
"""Not something the unit is: the status before it stays in force, and it may be sent again and again."""
