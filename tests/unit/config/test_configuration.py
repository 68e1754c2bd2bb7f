"""The configuration file: everything wrong at once, and nothing secret in what is said."""

from __future__ import annotations

import errno
import io
import re
from pathlib import Path

import pytest

from agent.app.devices import load
from agent.cli.check_config import check_config
from agent.cli.exit_code import ExitCode
from agent.config import ConfigError, reading

GOOD = """
[unit]
agency = "boston-ems"
unit = "A1"
[store]
directory = "data"
[[uplink.brokers]]
host = "broker.example.org"
[uplink.brokers.tls]
"""


BUS = "[[device]]\nkind = 'can_socketcan'\nchannel = '{}'\nvehicle = 'v'\n"
GPIO = "[[device]]\nkind = 'button_gpio'\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return path


def test_the_shipped_example_is_good_once_the_vehicle_has_its_own_name(
    checkout: Path, tmp_path: Path
) -> None:
    text = (checkout / "config" / "agent.toml").read_text(encoding="utf-8")
    vehicles = (checkout / "config" / "vehicles").as_posix()
    path = write(tmp_path, text.replace("CHANGE-ME", "A1").replace('"vehicles/', f'"{vehicles}/'))
    out, err = io.StringIO(), io.StringIO()
    assert check_config(path, out, err) == ExitCode.OK
    # Devices and the broker's password are not on this machine, and that is said.
    assert {line.split(": ")[1] for line in err.getvalue().splitlines()} == {"warning"}
    assert "A1/A1" in out.getvalue()


def test_the_identity_of_the_shipped_example_is_refused(checkout: Path) -> None:
    err = io.StringIO()
    assert check_config(checkout / "config" / "agent.toml", io.StringIO(), err) == ExitCode.BAD_CONFIG
    assert "unit.unit = 'CHANGE-ME'" in err.getvalue()
    with pytest.raises(ConfigError, match=r"unit\.agency"):
        load(checkout / "config" / "agent.toml")


def test_relative_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD)).store.directory == tmp_path / "data"


def test_every_problem_is_named_with_file_key_and_value(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        GOOD.replace('"A1"', '"A 1"')
        + "port = 70000\n[[device]]\nkind = 'gnss_serial'\ndevice = '/dev/gnss0'\nbaud = -1\nbuad = 1\n",
    )
    err = io.StringIO()
    assert check_config(path, io.StringIO(), err) == ExitCode.BAD_CONFIG
    lines = err.getvalue().splitlines()
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", line) for line in lines), lines
    for part in (
        "unit.unit = 'A 1'",
        "uplink.brokers[0].tls.port",
        "device[0].baud = -1",
        "device[0].buad = 1: no such key",
    ):
        assert any(part in line for line in lines), (part, lines)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("host = 'x'", "allow_plaintext"),
        ("host = 'x'\nallow_plaintext = true\n[uplink.brokers.tls]", "contradicts"),
        ("host = 'x'\n[uplink.brokers.tls]\ncertificate_file = 'c.pem'", "go together"),
        ("host = 'x'\n[uplink.brokers.tls]\nverify = false", "no such key"),
        ("host = 'x'\nallow_plaintext = true\npassword = { file = 'p' }", "needs `username`"),
        ("host = 'x'\nallow_plaintext = true\nusername = 'u'\npassword = {}", "exactly one"),
    ],
)
def test_encryption_and_verification_are_never_lost_by_omission(tmp_path: Path, table: str, why: str) -> None:
    text = GOOD.split("[[uplink.brokers]]", maxsplit=1)[0] + "[[uplink.brokers]]\n" + table + "\n"
    with pytest.raises(ConfigError, match=why):
        load(write(tmp_path, text))


def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    text = GOOD.replace('host = "broker.example.org"', 'host = "b"\nusername = "u"\npassword = "hunter2"')
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert "hunter2" not in str(caught.value)
    assert "uplink.brokers[0].password" in str(caught.value)


@pytest.mark.parametrize("table", ["pasword = 'hunter2'", "password = { value = 'hunter2' }"])
def test_a_secret_under_a_misspelt_name_is_not_repeated_either(tmp_path: Path, table: str) -> None:
    text = GOOD.replace('host = "broker.example.org"', f'host = "b"\nusername = "u"\n{table}')
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("[reporting]\nmoving_interval_s = inf", "reporting.moving_interval_s"),
        (
            BUS.format("a") + BUS.format("b"),
            "`name` of its own",
        ),
        (GPIO + "lines = { on_scene = 5, en_route = 5 }", "used twice"),
        (GPIO + "lines = { nonsense = 5 }", "without a meaning"),
        (
            GPIO + "lines = { on_scene = 5 }\nlamp_lines = { ghost = 6 }",
            "without a button",
        ),
    ],
)
def test_what_could_not_run_is_not_called_good(tmp_path: Path, table: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(write(tmp_path, GOOD + table + "\n"))


def test_a_file_of_nonsense_is_counted_not_told_line_by_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "".join(f"key{number} = 1\n" for number in range(20_000))))
    assert len(caught.value.problems) <= 101
    assert caught.value.problems[-1].endswith("more")


def test_what_is_no_toml_or_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can not be read"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="not TOML"):
        load(write(tmp_path, "[unit"))


def test_a_bad_vehicle_file_is_told_with_the_rest(tmp_path: Path) -> None:
    text = GOOD + "[[device]]\nkind = 'can_socketcan'\nchannel = 'can0'\nvehicle = 'absent.toml'\n"
    err = io.StringIO()
    assert check_config(write(tmp_path, text), io.StringIO(), err) == ExitCode.BAD_CONFIG
    assert "absent.toml" in err.getvalue()


def test_a_file_that_the_computer_can_not_read_now_is_no_mistake_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [errno.EMFILE, errno.EIO, errno.ENOMEM]
    monkeypatch.setattr(reading, "read_text", lambda path: _refuse(path, refusals.pop()))
    for _ in tuple(refusals):
        # Ending with 78 would keep systemd from ever starting the agent again.
        with pytest.raises(OSError, match="refused"):
            reading.read_toml(tmp_path / "agent.toml")
    refusals.append(errno.EACCES)
    with pytest.raises(ConfigError, match="can not be read: refused"):
        reading.read_toml(tmp_path / "agent.toml")


def _refuse(path: Path, number: int) -> str:
    raise OSError(number, "refused", str(path))


def test_the_lamp_of_the_whole_needs_no_button(tmp_path: Path) -> None:
    load(write(tmp_path, GOOD + GPIO + "lines = { on_scene = 5 }\nlamp_lines = { system = 6 }\n"))
