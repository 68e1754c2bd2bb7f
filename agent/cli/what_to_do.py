"""What to do about each health reason: for technicians and the crew's supervisor."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.health import HealthReason
from agent.domain.health import HealthReason as R

ELSE = "report this, with a bundle: mdt diag --bundle FILE"


@dataclass(frozen=True, slots=True)
class Advice:
    """What a reason means, and what to do.

    Attributes:
        sentence: what is wrong, without a full stop.
        do: what to do first.
    """

    sentence: str
    do: str


_DO: dict[str, str] = {
    R.GNSS_LOST: "check its cable; then its name in agent.toml",
    R.GNSS_SILENT: "check its power, and baud in agent.toml",
    R.GNSS_NO_FIX: "let the antenna see the sky; check its cable",
    R.ODOMETER_NOT_KEPT: "see the disk: mdt doctor",
    R.GNSS_IMPLAUSIBLE: "wait; if it stays, replace the receiver",
    R.GNSS_GARBLED: "check baud in agent.toml, and the cable",
    R.CAN_LOST: "check the adapter; `ip link show`",
    R.CAN_SILENT: "no harm with the ignition off; else `mdt bus`",
    R.CAN_ERRORS: "check bit rate and wires: sudo mdt doctor with the agent stopped",
    R.CAN_OVERRUN: "report this with a bundle",
    R.SENSOR_LOST: "check its cable and its name in agent.toml",
    R.SENSOR_SILENT: "check its cable; replace it",
    R.BUTTONS_LOST: "check the cable of the box at once",
    R.BUTTON_STUCK: "free it, or replace it",
    R.BUTTON_CHATTER: "replace the switch, or mend its wire; `mdt buttons` shows it live",
    R.IGNITION_DOUBTED: "check the wire of the ignition's sense; `mdt status` tells what it says",
    R.POWER_DOWN_FAILED: "systemctl enable --now mdt-poweroff.path; then its log: journalctl -u mdt-poweroff",
    R.COMMANDS_NOT_KEPT: "see room and rights of the store's folder",
    R.PATCH_LEFT_OUT: "tell fleet services; they may send it again",
    R.STORE_FULL: "free some room at once",
    R.STORE_READ_ONLY: "check the card: dmesg; replace it",
    R.STORE_IO_ERROR: "replace the card; save the store first",
    R.STORE_OVER_BUDGET: "see why nothing is delivered",
    R.BROKER_UNREACHABLE: "no harm without coverage; else host and port",
    R.BROKER_REFUSED: "check user, password, certificate and its rights",
    R.BROKER_NOT_PREFERRED: "see why the first is away",
    R.PACKET_TOO_LARGE: "raise its limit: config/broker/README.md",
    R.NO_SUBSCRIBER: "see whether dispatch's receiver runs",
    R.TLS_FAILED: "check ca_file, the certificate and the clock",
    R.CERTIFICATE_EXPIRING: "fetch a new one in time",
    R.TIME_UNSYNCHRONISED: "wait for a fix, or give a time server",
    R.STATUS_FAILED: "see room and rights of the socket's folder",
    R.RECORDER_STOPPED: "see room and rights of its folder",
    R.UNIT_RESTARTED: "report this with a bundle",
    R.NO_DESCRIPTORS: "restart the agent if it stays; report this with a bundle",
    R.TIME_NOT_PASSED_ON: "does chrony run, and may mdt write its socket? docs/install.md",
    R.MODEM_LOST: "check its cable and supply; `mmcli -L`",
    R.MODEM_FAILED: "check the SIM card and its PIN; `mmcli -m any`",
    R.MODEM_NO_NETWORK: "no harm without coverage; else its antenna and the SIM card",
    R.MODEM_WEAK: "no harm in a garage; else its antenna and cable",
    R.TAMPER: "look at the vehicle: is everything still there?",
    R.AGENT_RESTARTED: "journalctl -u mdt | grep -i error; report this with a bundle",
    R.COMPUTER_HOT: "give it air; keep it out of the sun",
    R.UNDER_VOLTAGE: "another supply or a thicker cable",
    R.MEMORY_LOW: "see what else runs on it",
    R.DISK_LOW: "free some room, or a smaller budget",
    R.DISK_ERRORS: "check it with e2fsck; think of a new card",
    R.DISK_WORN: "replace it at the next service",
}


def what_to_do(reason: str) -> Advice:
    """The advice for a reason; for one that this program does not know, its own words."""
    known = next((one for one in HealthReason if one == reason), None)
    sentence = reason.replace("_", " ") if known is None else known.sentence.removesuffix(".")
    return Advice(sentence, _DO.get(reason, ELSE))
