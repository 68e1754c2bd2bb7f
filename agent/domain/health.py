"""Named reasons why the device is not well, and the board that holds those that apply."""

from __future__ import annotations

from collections.abc import Callable

from agent.domain.field import Token


class HealthReason(Token):
    """Every state in which something does not work as it should; the token is sent."""

    GNSS_LOST = "gnss_lost", "The receiver is gone or can not be opened."
    GNSS_SILENT = "gnss_silent", "The receiver is there but says nothing."
    GNSS_NO_FIX = "gnss_no_fix", "The receiver speaks, but has no position."
    GNSS_IMPLAUSIBLE = "gnss_implausible", "The receiver is impossibly far from where it just was; marked so."
    GNSS_DOUBTED = (
        "gnss_doubted",
        "The wheels contradict the receiver; its position is marked so.",
    )
    GNSS_JAMMED = "gnss_jammed", "The receiver says that it is jammed."
    GNSS_SPOOFED = "gnss_spoofed", "The receiver says that its signals are forged; its position may be a lie."
    GNSS_ANTENNA = "gnss_antenna", "The receiver's antenna or its cable is broken, shorted or taken off."
    GNSS_GARBLED = "gnss_garbled", "Most of what is received fails its checksum."
    CAN_LOST = "can_lost", "The vehicle bus is gone or can not be opened."
    CAN_SILENT = "can_silent", "The vehicle bus is there but says nothing."
    CAN_ERRORS = "can_errors", "The bus is disturbed: bit rate, wires, or its controller went off the bus."
    CAN_OVERRUN = "can_overrun", "Frames were dropped before the agent could read them."
    SENSOR_LOST = "sensor_lost", "A sensor is gone or can not be opened; what it measured is unknown."
    SENSOR_SILENT = "sensor_silent", "A sensor is there but gives no reading."
    BUTTONS_LOST = "buttons_lost", "The crew's buttons are gone or can not be opened."
    PLACES_FAULTY = "places_faulty", "The file of places has faults; what is good in it is used."
    PANEL_FAILED = "panel_failed", "The crew's page can not be served."
    STATUS_FAILED = "status_failed", "Nobody can ask this agent how it is: its socket can not be made."
    RUN_NOT_KEPT = (
        "run_not_kept",
        "The call can not be kept on the disk, or was damaged there: a restart forgets it.",
    )
    ODOMETER_NOT_KEPT = (
        "odometer_not_kept",
        "The odometer can not be kept on the disk, or was damaged there: a restart forgets what was driven.",
    )
    COMMANDS_NOT_KEPT = (
        "commands_not_kept",
        "What was done by command can not be written to the disk: after a restart it may be done again.",
    )
    PATCH_LEFT_OUT = "patch_left_out", "A change of the configuration from afar is not in use any more."
    BUTTON_STUCK = "button_stuck", "A button has been down for so long that it must be jammed."
    BUTTON_CHATTER = "button_chatter", "A button moves faster than fingers can, or its presses get lost."
    STORE_FULL = "store_full", "The disk is full: nothing can be stored."
    STORE_READ_ONLY = "store_read_only", "The disk can not be written."
    STORE_IO_ERROR = "store_io_error", "The disk fails."
    STORE_SLOW = "store_slow", "The disk takes seconds for one piece of work; presses wait as long."
    STORE_OVER_BUDGET = (
        "store_over_budget",
        "The byte budget is reached; old trail is being thinned or evicted.",
    )
    BROKER_UNREACHABLE = "broker_unreachable", "No broker can be reached."
    BROKER_REFUSED = "broker_refused", "The broker answered and said no: credentials, rights or protocol."
    BROKER_NOT_PREFERRED = "broker_not_preferred", "The unit uses another broker than the first of its list."
    PACKET_TOO_LARGE = (
        "packet_too_large",
        "The broker takes packets of less than 4 KiB only, and is not used.",
    )
    NO_SUBSCRIBER = "no_subscriber", "The broker takes records and says that nobody is subscribed to them."
    IDENTITY_CONFLICT = (
        "identity_conflict",
        "Another computer speaks for this unit: a copied card, or a twin.",
    )
    NETWORK_UNWATCHED = "network_unwatched", "The kernel tells no changes of interfaces, addresses or routes."
    TLS_FAILED = "tls_failed", "The encrypted connection could not be made."
    CERTIFICATE_EXPIRING = "certificate_expiring", "The unit's certificate ends soon."
    TIME_UNSYNCHRONISED = "time_unsynchronised", "No source tells the time; records carry the last known one."
    TIME_CONTRADICTION = "time_contradiction", "GNSS and NTP differ by more than either admits."
    GNSS_DATE = (
        "gnss_date",
        "The receiver tells a date that can not be: put right by 1024 weeks, or not used.",
    )
    TIME_NOT_PASSED_ON = (
        "time_not_passed_on",
        "The time service does not take the receiver's time; the system clock is not set by it.",
    )
    MODEM_LOST = "modem_lost", "The modem is gone."
    MODEM_FAILED = "modem_failed", "The modem can not be used: its card is locked or missing, or it failed."
    MODEM_NO_NETWORK = "modem_no_network", "The modem finds no network."
    MODEM_WEAK = "modem_weak", "The modem hardly hears its network."
    TAMPER = "tamper", "What had worked was taken off, or fell off: an antenna, a device, a cable."
    AGENT_RESTARTED = "agent_restarted", "The agent ended again and again since the computer started."
    COMPUTER_HOT = "computer_hot", "The computer is so hot that it slows down."
    UNDER_VOLTAGE = "under_voltage", "The computer's supply is too weak, or was since it started."
    MEMORY_LOW = "memory_low", "The computer is short of memory."
    DISK_LOW = "disk_low", "The data disk is nearly full."
    DISK_ERRORS = "disk_errors", "The file system of the data counted errors."
    DISK_WORN = "disk_worn", "The card nears the end of its life."
    RECORDER_STOPPED = "recorder_stopped", "The black box is configured and can not write."
    RECORDING_NOT_KEPT = (
        "recording_not_kept",
        "The seconds around an event could not be written to the disk.",
    )
    UNIT_RESTARTED = "unit_restarted", "A part of the agent failed unexpectedly and was started again."
    IGNITION_DOUBTED = (
        "ignition_doubted",
        "The ignition's sense is missing, flaps or contradicts the motion: it turns nothing off.",
    )
    POWER_DOWN_FAILED = "power_down_failed", "The computer was to be turned off, and still runs."
    NO_DESCRIPTORS = (
        "no_descriptors",
        "Too many files are open to open another; a part waits for one.",
    )


TOLD_APART = frozenset(
    {
        HealthReason.BROKER_UNREACHABLE,
        HealthReason.BROKER_REFUSED,
        HealthReason.BROKER_NOT_PREFERRED,
        HealthReason.TLS_FAILED,
        HealthReason.NO_SUBSCRIBER,
        HealthReason.GNSS_NO_FIX,
    }
)
"""What the crew is told by a sign of its own (no connection, no GPS), and not as a system that is ill."""


class HealthBoard:
    """The set of reasons that hold now. Not thread-safe: used from the event loop only.

    A reason holds while any owner says so: with two buses, the one that is well does not clear what the
    silent one raised.
    """

    def __init__(self) -> None:
        self._details: dict[HealthReason, dict[str, str]] = {}
        self._raises: dict[HealthReason, int] = {}
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of the set."""
        self._listeners.append(listener)

    def raise_(self, reason: HealthReason, detail: str = "", *, owner: str = "") -> None:
        """Say that `reason` holds for `owner`; `detail` is for a person and does not count as a change."""
        new = reason not in self._details
        self._details.setdefault(reason, {})[owner] = detail
        if new:
            self._raises[reason] = self._raises.get(reason, 0) + 1
            self._tell()

    def clear(self, *reasons: HealthReason, owner: str = "") -> None:
        """Say that `reasons` no longer hold for `owner`."""
        changed = False
        for reason in reasons:
            owners = self._details.get(reason, {})
            if owners.pop(owner, None) is not None and not owners:
                del self._details[reason]
                changed = True
        if changed:
            self._tell()

    def reasons(self) -> tuple[HealthReason, ...]:
        """All reasons that hold, sorted by token."""
        return tuple(sorted(self._details))

    def raises(self) -> dict[HealthReason, int]:
        """How often each reason came to hold since the start, for those that ever did."""
        return dict(self._raises)

    def details(self) -> dict[HealthReason, str]:
        """Each reason with its details."""
        return {
            reason: "; ".join(detail for detail in owners.values() if detail)
            for reason, owners in self._details.items()
        }

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
