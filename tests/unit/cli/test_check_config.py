"""mdt check-config: what can be known before the road is known, and said in a person's words."""

from __future__ import annotations

import io
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app.devices import KINDS, load, validate
from agent.app.patches import patches_of
from agent.cli.check_config import check_config
from agent.cli.exit_code import ExitCode
from agent.config import Config, ConfigError, Section
from agent.config.plain_words import shown
from hil.process.vehicle_config import to_toml

HEAD = '[unit]\nagency = "test"\nunit = "T1"\n'
BROKER = '[[uplink.brokers]]\nhost = "broker.example.org"\nallow_plaintext = true\n'
GOOD = HEAD + BROKER
DBC = 'VERSION ""\nBO_ 256 M: 8 X\n SG_ Speed : 0|16@1+ (0.01,0) [0|0] "km/h" X\n'
INTERNALS = re.compile(
    r"pydantic|[Tt]raceback|[Ii]nput should|validation|instance|dictionary|tuple|\bNone\b|str\b|\bint\b"
    r"|namespace|array|declare|TOMLDecode|Value error|expected_|ctx"
)


VEHICLE = b"dbc = 'bus.dbc'\n[[signals]]\nmessage = 'M'\nsignal = 'Speed'\nname = 'Speed'\n"


def check(folder: Path, text: str | bytes) -> tuple[int, list[str], list[str]]:
    """Exit code, problems and remarks."""
    path = folder / "agent.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    out, err = io.StringIO(), io.StringIO()
    code = check_config(path, out, err)
    lines = [line.removeprefix(str(path)) for line in err.getvalue().splitlines()]
    remarks = [line for line in lines if ": warning: " in line]
    return code, [line for line in lines if line not in remarks], remarks


def device(kind: str, **settings: Any) -> str:
    lines = [f"{key} = {value!r}" if not isinstance(value, bool) else "" for key, value in settings.items()]
    return "\n".join(["[[device]]", f'kind = "{kind}"', *lines]) + "\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD.replace("broker.ex", "mqtts://u:hunter2@broker.ex"), 5, "mqtts:// does not belong here"),
        (GOOD.replace(".org", ".org:8883"), 5, "port = 8883"),
        (GOOD.replace(".org", ". org"), 5, "a space"),
        (GOOD.replace("broker.example.org", "[::1]:1883"), 5, "host = '::1'"),
        (GOOD.replace(".org", ".org/mqtt"), 5, "without user and path"),
        (GOOD + device("gnss_serial", device="tcp://192.0.2.1:8500"), 9, 'kind = "gnss_tcp"'),
        (GOOD + device("gnss_serial", device="192.0.2.1:8500"), 9, 'kind = "gnss_tcp"'),
        (GOOD + device("gnss_serial", device="socket://192.0.2.1:8500"), 9, 'kind = "gnss_tcp"'),
        (GOOD.replace("broker.example.org", "256.1.1.1"), 5, "each is 0 to 255"),
        (GOOD.replace("broker.example", "broker,example"), 5, "single dots"),
        (GOOD.replace("broker.example", "broker..example"), 5, "single dots"),
        (GOOD + "port = true\n", 7, "a whole number is expected"),
        (GOOD + "port = '8883'\n", 7, "a whole number is expected"),
        (GOOD.replace("= true", "= 'yes'"), 6, "true or false is expected"),
        (GOOD + "[buttons.keys]\nb1 = 'on_scen'\n", 7, "did you mean on_scene?"),
        (GOOD + device("gnss_tcp", host="http://router", port=8500), 9, "http:// does not belong"),
        (GOOD + device("gnss_serial", device="/dev/x", baud=9601), 10, "the nearest is 9600"),
        (GOOD + device("can_socketcan", channel="/dev/ttyUSB0", vehicle="v"), 9, 'kind = "can_slcan"'),
        (GOOD + device("can_socketcan", channel="can0", vehicle="v", bitrate=1), 11, "can_slcan"),
        (GOOD + device("can_slcan", device="/dev/x", vehicle="v", bitrate=123), 11, "250000"),
        (GOOD + device("gnss_seral", device="/dev/x"), 7, "did you mean gnss_serial?"),
        (GOOD + '[[device]]\ndevice = "/dev/x"\n', 7, "kind: missing; kinds are accelerometer_iio"),
        (GOOD + "[device]\nkind = 'gnss_serial'\n", 7, "write [[device]] with double brackets"),
        (GOOD + "[can]\nchannel = 'can0'\n", 7, "is a [[device]]"),
        (GOOD + "[[can]]\nchannel = 'can0'\n", 7, "is a [[device]]"),
        (GOOD + "[gnss]\ndevice = '/dev/x'\n", 7, "is a [[device]]"),
        (GOOD + "[buttons.box]\ndevice = '/dev/x'\n", 7, "is a [[device]]"),
        (GOOD.replace("[[uplink.brokers]]", "[uplink.brokers]"), 4, "write [[uplink.brokers]]"),
        (GOOD + "[repoting]\nmoving_interval_s = 1\n", 7, "did you mean reporting?"),
        (GOOD + "[reporting]\nmoving_interval = 1\n", 8, "did you mean moving_interval_s?"),
        (GOOD + "[reporting]\nmoving_interval_s = 1e400\n", 8, "sensible size"),
        (GOOD + f"[store]\nbudget_mib = {10**50}\n", 8, "must be 1048576 or less"),
        (GOOD + "[log]\nlevel = 'inof'\n", 8, "did you mean info?"),
        (GOOD + "[store]\ndirectory = 'agent.toml'\n", 8, "where a folder is expected"),
        (GOOD + '[store]\ndirectory = "a\\u0000b"\n', 8, "zero character"),
        (GOOD + "[recorder]\ndirectory = 'r'\nbudget_mib = 5\nfile_mib = 9\n", 7, "above budget_mib"),
        (GOOD + "[supervision]\nbackoff_min_s = 9\nbackoff_max_s = 5\n", 7, "below backoff_min_s"),
        (f"status_socket = '/{'x' * 120}'\n" + GOOD, 1, "longer than the 107 bytes"),
        (GOOD + device("can_socketcan", channel="lo", vehicle="v"), 9, "not of a CAN bus"),
        (GOOD + device("gnss_serial", device="agent.toml"), 7, "is no device, but an ordinary file"),
        (GOOD + device("temperature_w1", signal="ambient temperature"), 9, "VSS path"),
        (GOOD + device("temperature_w1", interval_s=60), 7, "below silent_after_s"),
    ],
)
def test_a_mistake_is_found_on_its_line_and_said_in_plain_words(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    if "CAN bus" in words and not Path("/sys/class/net/lo").exists():
        pytest.skip("/sys is not mounted here")
    code, problems, _ = check(tmp_path, text)
    assert code == ExitCode.BAD_CONFIG
    (problem,) = [problem for problem in problems if words in problem]
    assert problem.startswith(f":{line}: "), problem
    assert not INTERNALS.search(problem), problem
    assert "hunter2" not in problem


def test_a_device_that_two_blocks_take_is_named_with_both(tmp_path: Path) -> None:
    same = device("gnss_serial", device="/dev/x") + device("button_box", device="/dev/x")
    assert "/dev/x is used twice: by gnss and buttons" in check(tmp_path, GOOD + same)[1][0]
    gpio = device("button_gpio", name="a", chip="/dev/c") + "lines = { available = 5 }\n"
    other = gpio.replace("'a'", "'b'").replace("available", "on_scene")
    assert "/dev/c line 5 is used twice" in check(tmp_path, GOOD + gpio + other)[1][0]
    assert check(tmp_path, GOOD + gpio + other.replace("5", "6"))[0] == ExitCode.OK


def test_two_names_of_one_device_file_are_one_device(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    try:
        (tmp_path / "link").symlink_to(os.ttyname(follower))
        blocks = device("gnss_serial", device="link") + device("button_box", device=os.ttyname(follower))
        code, problems, _ = check(tmp_path, GOOD + blocks)
        assert code == ExitCode.BAD_CONFIG
        assert "which gnss uses as well" in problems[0]
        # A relative path is taken from the folder of the file.
        assert check(tmp_path, GOOD + device("gnss_serial", device="link"))[2] == []
    finally:
        os.close(leader)
        os.close(follower)


def test_a_device_that_is_not_there_is_a_remark(tmp_path: Path) -> None:
    blocks = device("gnss_serial", device="/dev/no-such") + device("temperature_w1", path="w1/*/temperature")
    code, problems, remarks = check(tmp_path, GOOD + blocks)
    assert (code, problems) == (ExitCode.OK, [])
    assert [remark.partition(": warning: ")[2] for remark in remarks] == [
        "device[0]: /dev/no-such is not there now",
        f"device[1]: {tmp_path}/w1/*/temperature is not there now",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[uplink]\nfail_over_after_s = 5\n" + GOOD, "uplink.fail_over_after_s: has no effect"),
        (GOOD + "[buttons]\nstuck_after_s = 9\n", "buttons.stuck_after_s: has no effect"),
        (GOOD + "[reporting]\ntelemetry_interval_s = 9\n", "telemetry_interval_s: has no effect"),
        (GOOD + device("temperature_w1", signal="Exterior.AirTemprature"), "did you mean Exterior.AirT"),
        (GOOD + device("gnss_serial", device="/dev/ttyUSB7"), "by-id link"),
        (
            GOOD + device("temperature_w1") + device("temperature_w1", name="two", path="x/temperature"),
            "comes from temperature and from two",
        ),
        (GOOD + "username = 'u'\npassword = { file = 'absent' }\n", "absent: No such file"),
        (GOOD + "username = 'u'\npassword = { file = 'empty' }\n", "it is empty"),
    ],
)
def test_what_has_no_effect_or_may_come_later_is_a_remark(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "empty").write_text("")
    code, problems, remarks = check(tmp_path, text)
    assert (code, problems) == (ExitCode.OK, [])
    assert any(words in remark for remark in remarks), remarks


def test_a_secret_that_is_no_text_is_wrong_and_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"hunter2\xff")
    code, problems, _ = check(tmp_path, GOOD + "username = 'u'\npassword = { file = 'pw' }\n")
    assert code == ExitCode.BAD_CONFIG
    assert "not UTF-8" in problems[0]
    assert "hunter" not in problems[0]


def test_a_byte_order_mark_is_as_none_in_configuration_vehicle_and_secret_file(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    (tmp_path / "pw").write_bytes(bom + b"hunter2\n")
    (tmp_path / "bus.dbc").write_text(
        'VERSION ""\nBO_ 256 M: 8 X\n SG_ Speed : 0|16@1+ (0.01,0) [0|0] "km/h" X\n'
    )
    vehicle = 'dbc = "bus.dbc"\n[[signals]]\nmessage = "M"\nsignal = "Speed"\nname = "Speed"\n'
    (tmp_path / "vehicle.toml").write_bytes(bom + vehicle.encode())
    text = GOOD + "username = 'u'\npassword = { file = 'pw' }\n"
    text += device("can_socketcan", channel="can77", vehicle="vehicle.toml")
    code, problems, _ = check(tmp_path, bom + text.encode())
    assert (code, problems) == (ExitCode.OK, [])
    config = validate(tomllib.loads(text), tmp_path / "agent.toml")
    secret = config.uplink.brokers[0].password
    assert secret is not None
    assert secret.read() == "hunter2"


@pytest.mark.parametrize("name", ["bom.toml", "host_with_scheme.toml", "host_with_port.toml"])
def test_the_inputs_that_failed_once(feeds: Path, name: str) -> None:
    err = io.StringIO()
    code = check_config(feeds / "cases" / name, io.StringIO(), err)
    assert code == (ExitCode.OK if name == "bom.toml" else ExitCode.BAD_CONFIG)
    assert len(err.getvalue().splitlines()) == (0 if name == "bom.toml" else 1)


@pytest.mark.parametrize(
    ("vehicle", "words"),
    [
        (b"dbc = 'bus.dbc'\nsignals = 5\n", "vehicle.toml:2: signals"),
        (b"dbc = 'bus.dbc'\n[[signals]]\nscale = 1e400\n", "vehicle.toml:3: signals[0].scale"),
        (b"a = " + b"[" * 5000, "without end"),
        (b"\xff\xfe", "UTF-16"),
        (b'dbc = "a\\u0000b"\nsignals = []\n', "zero character"),
        (b"dbc = 'absent.dbc'\n[[signals]]\nmessage = 'M'\nsignal = 'S'\nname = 'Speed'\n", "absent.dbc"),
        (b"dbc = 'bus.dbc'\n[[signals]]\nmap = { a = [1], b = 2 }\n", "a number, true, false or text"),
        (VEHICLE.replace(b"'M'", b"'MM'"), "vehicle.toml:3: signals[0].message = 'MM': no such message"),
        (VEHICLE.replace(b"bus", b"before"), "vehicle.toml:4: signals[0].signal"),
        (VEHICLE.replace(b"bus", b"endless"), "endless.dbc"),
        (VEHICLE.replace(b"name = 'Speed'", b"name = 'A.B'\nunit = 'km/hr'"), "did you mean km/h?"),
        (VEHICLE.replace(b"name = 'Speed'", b"name = 'A.B'\nunit = 'celcius'"), "did you mean celsius?"),
    ],
)
def test_a_bad_vehicle_file_ends_with_78_and_a_sentence(tmp_path: Path, vehicle: bytes, words: str) -> None:
    (tmp_path / "vehicle.toml").write_bytes(vehicle)
    (tmp_path / "bus.dbc").write_text(DBC)
    (tmp_path / "before.dbc").write_text(DBC.replace("0|16", "-4|16"))
    (tmp_path / "endless.dbc").write_text(DBC.replace("0.01", "1e400"))
    text = GOOD + device("can_socketcan", channel="can77", vehicle="vehicle.toml")
    code, problems, _ = check(tmp_path, text)
    assert code == ExitCode.BAD_CONFIG
    assert any(words in problem for problem in problems), problems
    assert not any(INTERNALS.search(problem) for problem in problems), problems


def numbers(model: type[Section], seen: set[type[Section]]) -> list[str]:
    """Numeric keys of a model and those below it that have no upper bound."""
    if model in seen:
        return []
    seen.add(model)
    schema = model.model_json_schema()
    tables = [schema, *schema.get("$defs", {}).values()]
    found = []
    for table in tables:
        for key, field in table.get("properties", {}).items():
            for one in field.get("anyOf", [field]):
                bounded = {"maximum", "exclusiveMaximum"} & one.keys()
                if (
                    one.get("type") in ("integer", "number")
                    and not bounded
                    and key not in ("baud", "bitrate")
                ):
                    found.append(f"{table.get('title')}.{key}")
    return found


def test_every_number_has_an_upper_bound() -> None:
    """Else a number that was mistyped is found on the road, by whatever overflows."""
    seen: set[type[Section]] = set()
    assert numbers(Config, seen) == []
    for row in KINDS.values():
        assert numbers(row.settings_class(), seen) == []


WHOLE: dict[str, Any] = {
    "status_socket": "mdt.sock",
    "unit": {"agency": "test", "unit": "T1"},
    "store": {"directory": "store", "budget_mib": 5, "synchronous": "FULL"},
    "device": [
        {"kind": "gnss_serial", "device": "gnss0", "baud": 9600},
        {"kind": "can_slcan", "device": "slcan0", "bitrate": 500000, "vehicle": "vehicle.toml"},
        {"kind": "button_gpio", "chip": "chip0", "lines": {"available": 3}, "active_low": True},
        {"kind": "temperature_w1", "path": "w1/*/temperature", "interval_s": 5.5},
    ],
    "buttons": {"keys": {"available": "available"}, "stuck_after_s": 5},
    "uplink": {
        "brokers": [{"host": "b", "port": 1883, "username": "u", "password": {"file": "pw"}, "tls": {}}],
        "keepalive_s": 20,
    },
    "log": {"level": "info"},
}
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(),
        st.integers(min_value=-(10**400), max_value=10**400),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["", "a:b", "socket://x:1", "\x00", "\x1b[31m", "a/b", "../x", "é", "5", "x" * 300]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    match value:
        case dict():
            members = list(value.items())
        case list():
            members = list(enumerate(value))
        case _:
            return []
    return [one for key, member in members for one in ((*place, key), *places(member, (*place, key)))]


def with_value(table: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(table) if isinstance(table, dict) else list(table)
    copy[place[0]] = with_value(table[place[0]], place[1:], value)
    return copy


@given(place=st.sampled_from(places(WHOLE)), value=VALUES)
def test_no_value_in_any_place_gives_a_traceback_or_our_own_words(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "agent.toml"
    for problem in problems_of(with_value(WHOLE, place, value), path):
        assert problem.startswith(f"{path}: ")
        assert problem.isprintable(), problem
        assert len(problem) < 800
        own = problem.replace(shown(value), "").replace(str(value), "") if value else problem
        assert place[0] == "device" or not INTERNALS.search(own), problem


def problems_of(table: Any, path: Path) -> list[str]:
    """Every sentence; any other error is the test's failure."""
    try:
        validate(table, path)
    except ConfigError as error:
        return error.problems
    return []


@given(data=st.data())
def test_no_mangled_file_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = to_toml(WHOLE).encode()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        upto = data.draw(st.integers(at, min(len(text), at + 30)))
        text = (
            text[:at]
            + data.draw(st.binary(max_size=4) | st.sampled_from([b"[", b'"', b"\n", b"{", b"="]))
            + text[upto:]
        )
    code, problems, _ = check(tmp_path_factory.getbasetemp(), text)
    assert code in (ExitCode.OK, ExitCode.BAD_CONFIG)
    assert bool(problems) == (code == ExitCode.BAD_CONFIG)


def test_keys_without_a_device_are_those_of_the_crews_page(tmp_path: Path) -> None:
    code, problems, remarks = check(tmp_path, GOOD + '[buttons]\nkeys = { go = "en_route" }\n')
    assert (code, problems) == (ExitCode.OK, [])
    assert not any("buttons" in remark for remark in remarks), remarks


def test_what_was_changed_from_afar_is_shown_and_never_written_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(HEAD + '[store]\ndirectory = "store"\n' + BROKER, encoding="utf-8")
    patches = patches_of(path, load(path), validate)
    patches.begin()
    patches.propose("c", {"reporting": {"max_age_s": 5}}, 60)
    patches = patches_of(path, load(path), validate)
    patches.begin()
    patches.confirm()
    before, out = path.read_bytes(), io.StringIO()
    assert check_config(path, out, io.StringIO()) == ExitCode.OK
    assert "changed from afar, by what lies beside the store: reporting.max_age_s = 5" in out.getvalue()
    assert path.read_bytes() == before
    path.write_bytes(before + b"# edited\n")
    err = io.StringIO()
    assert check_config(path, io.StringIO(), err) == ExitCode.OK
    assert "a change from afar is not in use" in err.getvalue()
