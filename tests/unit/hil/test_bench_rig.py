"""The bench's file is checked as strictly as the agent's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import ConfigError
from hil.bench_rig import main, read_bench


def example(checkout: Path) -> Path:
    return checkout / "hil" / "rigs" / "bench.example.toml"


def test_the_example_makes_a_configuration_of_the_agent(checkout: Path) -> None:
    path = example(checkout)
    configuration = read_bench(path).configuration(path)
    kinds = {device.kind: device for device in configuration.devices}
    assert list(kinds) == ["gnss_serial", "can_slcan", "button_gpio"]
    assert getattr(kinds["gnss_serial"], "device") == "/dev/mdt-gnss"  # noqa: B009
    assert getattr(kinds["can_slcan"], "vehicle").is_file()  # noqa: B009
    assert main([str(path)]) == 0


@pytest.mark.parametrize(
    ("line", "instead", "complaint"),
    [
        (
            'device = "/dev/serial/by-id/usb-bench-gnss-feed"',
            'device = "/dev/mdt-gnss"',
            "two ends of one cable",
        ),
        ('channel = "can1"\nbitrate = 500000', 'channel = "can1"\nbitrate = 250000', "feed_can.can0"),
        ("[feed_can.can0]", "[feed_can.can7]", "no such bus"),
        ("emergency = 5 }", "alarm = 5 }", "alarm mean nothing"),
        ("emergency = 5 }", "emergency = 7 }", "stand for two things"),
        ("active_low = true", "active_high = true", "no such key"),
    ],
)
def test_what_does_not_fit_is_named(
    checkout: Path, tmp_path: Path, line: str, instead: str, complaint: str
) -> None:
    text = example(checkout).read_text(encoding="utf-8")
    assert line in text
    path = tmp_path / "bench.toml"
    path.write_text(text.replace(line, instead), encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        read_bench(path)
    assert main([str(path)]) == 78
