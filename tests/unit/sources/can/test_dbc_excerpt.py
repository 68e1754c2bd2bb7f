"""DBC files as they are found: what is faulty is known by its own line, and costs only what it stands in."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import ConfigError
from agent.sources.can.dbc_excerpt import parse_dbc
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.vehicle_file import VehicleFile, WantedSignal

GOOD = """VERSION ""

NS_ :
\tCM_
\tBA_DEF_
\tVAL_

BS_:

BU_: ECU
BO_ 288 BODY: 8 ECU
 SG_ Gear : 0|4@1+ (1,0) [0|15] "" ECU
 SG_ Speed : 8|16@1+ (0.01,0) [0|0] "km/h" ECU

BO_ 289 OTHER: 8 ECU
 SG_ Lamp : 0|4@1+ (1,0) [0|15] "" ECU

CM_ BO_ 288 "more than
BO_ 999 FAKE: 8 ECU
 SG_ Fake : 0|8@1+ (1,0) [0|0] \\"\\" ECU
one line";
VAL_ 289 Lamp 0 "dark" 1 "lit; or so" ;
VAL_ 288 Gear 0 "P" 3 "D" 15 "SNA" ; VAL_ 288 Speed 65535 "SNA" ;
"""
WANTED = (
    WantedSignal(message="BODY", signal="Gear", name="Own.Gear"),
    WantedSignal(message="BODY", signal="Speed", name="Speed"),
)


def read(tmp_path: Path, text: str) -> dict[str, list[object]]:
    path = tmp_path / "a.dbc"
    path.write_text(text, encoding="utf-8")
    decoder = compile_decoder(VehicleFile(dbc=path, signals=WANTED), tmp_path / "a.toml")
    return {signal.name: [signal.value(raw) for raw in (0, 3, 15, 65535)] for signal in decoder.signals}


SAID = {"Own.Gear": ["P", "D", None, None], "Speed": [0, 0.03, 0.15, None]}


def test_a_good_file_has_no_remarks(tmp_path: Path) -> None:
    assert parse_dbc(GOOD).remarks == []
    assert parse_dbc(GOOD.replace("\n", "\r\n")).remarks == []
    assert [message.name for message in parse_dbc(GOOD).messages] == ["BODY", "OTHER"]
    assert read(tmp_path, GOOD) == SAID
    assert read(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n")) == SAID


@pytest.mark.parametrize(
    ("good", "bad", "line", "said"),
    [
        ('"lit; or so" ;', '"lit; or so"', 22, "the semicolon at the end is missing: VAL_ 289"),
        ('15 "SNA" ; VAL_', '15 "SNA"\nVAL_', 23, "the semicolon at the end is missing: VAL_ 288 Gear"),
        ("SG_ Lamp : 0|4@1+", "SG_ Lamp  0|4@1+", 16, "a signal that is not understood: SG_ Lamp"),
        ("BO_ 289 OTHER: 8 ECU", "BO_ 289 OTHER 8 ECU", 15, "a message that is not understood: BO_ 289"),
        ("BO_ 289 OTHER", "BO_ 288 OTHER", 15, "the identifier of OTHER stands in line 11, too"),
        ('one line";', "one line;", 18, "quotes are opened here and not closed"),
        (" SG_ Lamp", "hello world\n SG_ Lamp", 16, "not a statement of a DBC: hello"),
    ],
)
def test_a_fault_elsewhere_is_named_with_its_line_and_costs_nothing(
    tmp_path: Path, good: str, bad: str, line: int, said: str
) -> None:
    assert good in GOOD
    text = GOOD.replace(good, bad)
    found = [(at, why) for at, why in parse_dbc(text).remarks if said in why]
    assert [at for at, _ in found] == [line]
    assert read(tmp_path, text) == SAID


@pytest.mark.parametrize(
    ("good", "bad", "line", "said"),
    [
        ("SG_ Speed : 8|16@1+ (0.01,0)", "SG_ Speed : 8|16@1+ (0.01;0)", 13, "SG_ Speed"),
        ("SG_ Speed : 8|16", "SG_ Speed  8|16", 13, "SG_ Speed  8|16"),
        ("SG_ Speed : 8|16", "SG_ Speed : -8|16", None, "Speed does not fit"),
        ("SG_ Speed : 8|16", "SG_ Speed : 8|0", 11, "Speed length 0"),
        ('(0.01,0) [0|0] "km/h', '(1e400,0) [0|0] "km/h', 11, "message BODY"),
        ('(0.01,0) [0|0] "km/h', '(0,0) [0|0] "km/h', 11, "message BODY"),
        ("BO_ 288 BODY: 8", "BO_ 99999999999 BODY: 8", 11, "message BODY"),
        ('VAL_ 288 Gear 0 "P"', 'VAL_ 288 Gear zero "P"', 23, "VAL_ 288 Gear zero"),
    ],
)
def test_a_fault_in_what_is_wanted_is_told_with_the_line_of_the_file(
    tmp_path: Path, good: str, bad: str, line: int | None, said: str
) -> None:
    assert good in GOOD
    text = GOOD.replace(good, bad).replace("VAL_ 99999999999", "VAL_ 288")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (problem,) = [one for one in caught.value.problems if said in one][:1]
    assert line is None or f"line {line}: " in problem
    assert "\n" not in problem


def test_long_names_are_as_good_as_the_short_ones(tmp_path: Path) -> None:
    text = GOOD + (
        'BA_DEF_ BO_ "SystemMessageLongSymbol" STRING ;\n'
        'BA_ "SystemMessageLongSymbol" BO_ 288 "BodyOfTheWholeVehicle";\n'
        'BA_ "SystemSignalLongSymbol" SG_ 288 Speed "SpeedOfTheWholeVehicle";\n'
    )
    path = tmp_path / "a.dbc"
    path.write_text(text, encoding="utf-8")
    for message in ("BODY", "BodyOfTheWholeVehicle"):
        for signal in ("Speed", "SpeedOfTheWholeVehicle"):
            wanted = WantedSignal(message=message, signal=signal, name="Speed")
            decoder = compile_decoder(VehicleFile(dbc=path, signals=(wanted,)), tmp_path / "a.toml")
            assert [one.value(100) for one in decoder.signals] == [1]
    wanted = WantedSignal(message="BODY", signal="SpeedOfTheWholeVehicl", name="Speed")
    with pytest.raises(ConfigError, match="did you mean 'SpeedOfTheWholeVehicle'"):
        compile_decoder(VehicleFile(dbc=path, signals=(wanted,)), tmp_path / "a.toml")


@pytest.mark.parametrize("unit", ["SED", "unitless", "-", "Number", "yes/no", "Binary", " none ", "Bits"])
def test_what_is_no_unit_is_none(tmp_path: Path, unit: str) -> None:
    text = GOOD.replace('SG_ Gear : 0|4@1+ (1,0) [0|15] ""', f'SG_ Gear : 0|4@1+ (1,0) [0|15] "{unit}"')
    assert read(tmp_path, text) == SAID


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(GOOD) - 1),
            st.integers(0, 3),
            st.text(alphabet='"; \n-0|@(),:MmSG_BOxe9\\', max_size=6),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_mangled_file_is_used_or_refused_with_sentences(
    edits: list[tuple[int, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = GOOD
    for at, length, put in edits:
        text = text[:at] + put + text[at + length :]
    with suppress(ConfigError):
        read(tmp_path_factory.getbasetemp(), text)


@pytest.mark.parametrize(
    ("good", "mad"),
    [
        ("8|16@1+ (0.01", "8|99999999@1+ (0.01"),
        ("8|16@1+ (0.01", "99999999|16@1+ (0.01"),
        ("8|16@1+ (0.01", "8|99999@1+ (0.01"),
        ("BODY: 8 ECU", "BODY: 99999999 ECU"),
    ],
)
def test_sizes_that_no_bus_has_are_a_sentence_and_not_minutes_of_work(
    tmp_path: Path, good: str, mad: str
) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path, GOOD.replace(good, mad))
