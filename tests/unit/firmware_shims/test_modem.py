"""The modem by ModemManager over D-Bus: a real dbus-daemon, and somebody who plays ModemManager on it."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.health import HealthReason
from agent.domain.modem import ModemState, modem_unwell
from firmware_shims.modem import ModemManager, modem_of

jeepney = pytest.importorskip("jeepney")
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>
"""
MODEM = "org.freedesktop.ModemManager1.Modem"
GOOD = {
    "/org/freedesktop/ModemManager1/Modem/0": {
        MODEM: {
            "State": ("i", 11),
            "SignalQuality": ("(ub)", (71, True)),
            "AccessTechnologies": ("u", 1 << 14),
            "Model": ("s", "SIM7600"),
        },
        f"{MODEM}.Modem3gpp": {"OperatorName": ("s", "Example")},
    }
}


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Path]:
    """Socket of a bus of its own."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    socket = tmp_path / "bus"
    config = tmp_path / "bus.conf"
    config.write_text(CONFIG.format(socket=socket), encoding="utf-8")
    process = subprocess.Popen(
        ["dbus-daemon", "--nofork", "--nopidfile", "--print-address", f"--config-file={config}"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(b"unix:")
        yield socket
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@contextmanager
def modem_manager(bus: Path, objects: dict[str, Any]) -> Iterator[None]:
    """Play ModemManager for one question."""
    from jeepney import MessageType, new_method_return
    from jeepney.bus_messages import message_bus
    from jeepney.io.blocking import open_dbus_connection

    connection = open_dbus_connection(bus=f"unix:path={bus}")
    connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.ModemManager1"))

    def answer() -> None:
        while True:
            message = connection.receive(timeout=30)
            if message.header.message_type is MessageType.method_call:
                connection.send_message(new_method_return(message, "a{oa{sa{sv}}}", (objects,)))
                return

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        connection.close()


@contextmanager
def modem_manager_that_is_not_asked(bus: Path) -> Iterator[None]:
    from jeepney.bus_messages import message_bus
    from jeepney.io.blocking import open_dbus_connection

    with open_dbus_connection(bus=f"unix:path={bus}") as connection:
        connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.ModemManager1"))
        yield


def test_a_modem_is_read(bus: Path) -> None:
    with modem_manager(bus, GOOD):
        state = ModemManager(bus=bus).read()
    assert state == ModemState(
        is_there=True,
        state="connected",
        signal_percent=71,
        technology="LTE",
        operator="Example",
        model="SIM7600",
    )


def test_a_manager_without_a_modem_is_told_as_such(bus: Path) -> None:
    with modem_manager(bus, {}):
        assert ModemManager(bus=bus).read() == ModemState(is_there=False)


def test_who_can_not_be_asked_is_not_known(bus: Path, tmp_path: Path) -> None:
    assert ModemManager(bus=bus).read() is None, "a bus, and no ModemManager on it"
    assert ModemManager(bus=tmp_path / "nothing").read() is None
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert ModemManager(bus=tmp_path / "file").read() is None
    (tmp_path / "run" / "dbus").mkdir(parents=True)
    (tmp_path / "run" / "dbus" / "system_bus_socket").symlink_to(bus)
    with modem_manager_that_is_not_asked(bus):
        assert ModemManager(tmp_path).read() is None, "where it is not installed nobody is asked"


def test_each_state_of_the_modem_has_its_reason_and_what_is_unknown_has_none() -> None:
    def reasons(*, was_there: bool = False, **given: Any) -> list[HealthReason]:
        return list(modem_unwell(ModemState(**{"is_there": True, **given}), was_there=was_there))

    assert reasons(state="connected", signal_percent=71) == []
    assert reasons(state="connected", signal_percent=7) == [HealthReason.MODEM_WEAK]
    assert reasons(state="searching") == [HealthReason.MODEM_NO_NETWORK]
    assert reasons(state="locked") == [HealthReason.MODEM_FAILED]
    assert reasons() == []
    assert reasons(is_there=False) == []
    assert reasons(is_there=False, was_there=True) == [HealthReason.MODEM_LOST]
    assert modem_unwell(None, was_there=True) == {}


def test_a_signal_that_was_not_taken_lately_is_not_known() -> None:
    table = {"/m": {MODEM: {"SignalQuality": ("(ub)", (0, False))}}}
    state = modem_of(table)
    assert state.signal_percent is None


variants = st.tuples(
    st.text(), st.none() | st.integers() | st.text() | st.tuples(st.integers(), st.booleans())
)
properties = st.dictionaries(
    st.sampled_from(["State", "SignalQuality", "AccessTechnologies", "Model", "OperatorName"]), variants
)


@given(properties, properties)
def test_no_answer_of_a_manager_raises(modem: Any, network: Any) -> None:
    modem_of({"/m": {MODEM: modem, f"{MODEM}.Modem3gpp": network}})
