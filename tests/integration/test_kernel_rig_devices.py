from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hil.kernel.linux import Linux, RigUnavailable, find_linux
from hil.kernel.machine import GuestFaultError, Hardware, Machine

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]


def run_checks(linux: Linux, program: str, hardware: Hardware) -> dict[str, str]:
    """Run a guest program that says RESULTs. Returns the failed checks, each with its detail."""
    results = {}
    with Machine(linux, [program], hardware) as machine:
        for message in machine.messages(50):
            if message.word == "RESULT":
                result = json.loads(" ".join(message.rest))
                results[result["check"]] = result
            if message.word == "FAULT":
                raise GuestFaultError(" ".join(message.rest))
            if message.word == "DONE":
                break
        else:
            pytest.fail("the guest did not finish:\n" + "\n".join(machine.said))
    assert results
    return {name: result["detail"] for name, result in results.items() if not result["ok"]}


def test_the_can_shim_on_a_real_socketcan_bus() -> None:
    try:
        assert run_checks(find_linux(), "hil.kernel.guest_can", Hardware(can="vcan0")) == {}
    except RigUnavailable as reason:
        pytest.skip(str(reason))


def test_control_units_are_asked_by_a_kernel_that_has_iso_tp() -> None:
    try:
        linux = find_linux(purpose_built=True)
    except RigUnavailable as reason:
        pytest.skip(str(reason))
    assert run_checks(linux, "hil.kernel.guest_can", Hardware(can="vcan0")) == {}


def test_the_gpio_shim_on_real_gpio_lines() -> None:
    pytest.importorskip("gpiod")
    try:
        linux = find_linux(purpose_built=True)
    except RigUnavailable as reason:
        pytest.skip(str(reason))
    assert run_checks(linux, "hil.kernel.guest_gpio", Hardware(gpio_lines=8)) == {}


def test_the_shim_for_input_devices_on_keyboards_of_the_kernel() -> None:
    checked(lambda linux: run_checks(linux, "hil.kernel.guest_evdev", Hardware()))


def test_sleep_of_the_computer_is_noticed_and_no_time_is_invented_over_it() -> None:
    checked(lambda linux: run_checks(linux, "hil.kernel.guest_sleep", Hardware(time_travel=True)))


def checked(checks: Callable[[Linux], dict[str, str]]) -> None:
    """Run checks on the purpose-built kernel; one that was built before it had what they need is said."""
    try:
        assert checks(find_linux(purpose_built=True)) == {}
    except RigUnavailable as reason:
        pytest.skip(str(reason))
    except GuestFaultError as fault:
        if "this kernel has no" in str(fault):
            pytest.skip(f"{fault}: run `make rig` again")
        raise
