"""What ModemManager tells of the modem, over D-Bus. Blocking: asked on a worker.

Nothing is sent to the modem: its properties are read. Where there is no system bus, no ModemManager, or no
modem, that is told as such; a figure that is not known is None.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agent.domain.modem import ModemState

SYSTEM_BUS: Final = Path("run/dbus/system_bus_socket")
INSTALLED: Final = (
    Path("usr/sbin/ModemManager"),
    Path("usr/share/dbus-1/system-services/org.freedesktop.ModemManager1.service"),
)
WITHIN_S: Final = 2.0
_NAME: Final = "org.freedesktop.ModemManager1"
_PATH: Final = "/org/freedesktop/ModemManager1"
_MODEM: Final = f"{_NAME}.Modem"
_STATES: Final = {
    -1: "failed", 0: "unknown", 1: "initializing", 2: "locked", 3: "disabled", 4: "disabling", 5: "enabling",
    6: "enabled", 7: "searching", 8: "registered", 9: "disconnecting", 10: "connecting", 11: "connected",
}  # fmt: skip
"""MMModemState of ModemManager's API."""
_TECHNOLOGIES: Final = ((1 << 15, "5G"), (1 << 14, "LTE"), (0x3FE0, "3G"), (0x1E, "2G"))
"""MMModemAccessTechnology, the newest first."""


class ModemManager:
    """Asks ModemManager. It is never started for that: it would write to every serial port that it finds.

    Args:
        root: where the bus and the installed programs are; "/" but for tests.
        bus: socket of the bus; without it the system's, where ModemManager is installed.
    """

    def __init__(self, root: Path = Path("/"), bus: Path | None = None) -> None:
        self._root = root
        self._bus = root / SYSTEM_BUS if bus is None else bus
        self._given = bus is not None

    def read(self) -> ModemState | None:
        """The first modem; a state without a modem when there is none; None when nobody can be asked."""
        if not self._bus.exists():
            return None
        if not self._given and not any((self._root / path).exists() for path in INSTALLED):
            return None
        # Loaded where there is somebody to talk to.
        from jeepney import DBusAddress, MessageFlag, MessageType, new_method_call
        from jeepney.io.blocking import open_dbus_connection

        try:
            with open_dbus_connection(bus=f"unix:path={self._bus}", auth_timeout=WITHIN_S) as connection:
                asked = DBusAddress(
                    "/org/freedesktop/ModemManager1", _NAME, "org.freedesktop.DBus.ObjectManager"
                )
                message = new_method_call(asked, "GetManagedObjects")
                message.header.flags |= MessageFlag.no_auto_start
                answer = connection.send_and_get_reply(message, timeout=WITHIN_S)
        except (OSError, ValueError, EOFError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            return None
        if answer.header.message_type is not MessageType.method_return:
            return None  # nobody has this name, and nobody can be started for it
        return modem_of(answer.body[0])


def modem_of(objects: Mapping[str, Mapping[str, Mapping[str, tuple[str, Any]]]]) -> ModemState:
    """The first modem of what ModemManager manages: object path to interface to property to (type, value)."""
    for path in sorted(objects):
        table = objects[path].get(_MODEM)
        if table is not None:
            return _state(table, objects[path].get(f"{_MODEM}.Modem3gpp", {}))
    return ModemState(is_there=False)


def _state(modem: Mapping[str, tuple[str, Any]], network: Mapping[str, tuple[str, Any]]) -> ModemState:
    quality = _value(modem, "SignalQuality")
    is_recent = isinstance(quality, tuple | list) and len(quality) == 2 and quality[1] is True  # noqa: PLR2004
    state, bits = _value(modem, "State"), _value(modem, "AccessTechnologies")
    return ModemState(
        is_there=True,
        state=_STATES.get(state) if isinstance(state, int) else None,
        signal_percent=int(quality[0]) if is_recent else None,
        technology=_technology(bits) if isinstance(bits, int) else None,
        operator=_text(_value(network, "OperatorName")),
        model=_text(_value(modem, "Model")),
    )


def _technology(bits: int) -> str | None:
    return next((name for mask, name in _TECHNOLOGIES if bits & mask), None)


def _value(table: Mapping[str, tuple[str, Any]], name: str) -> Any:
    variant = table.get(name)
    return variant[1] if isinstance(variant, tuple) and len(variant) == 2 else None  # noqa: PLR2004


def _text(value: Any) -> str | None:
    return value[:64] if isinstance(value, str) and value else None
