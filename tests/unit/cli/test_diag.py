"""`mdt diag --bundle`: everything for whoever helps from afar, and no secret."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from agent.app.bundle import redacted
from agent.cli import diag as diag_module
from agent.cli.diag import diag
from agent.cli.main import main

SECRET = "s3cr3t-Wort"
CONFIG = f"""
unit = {{ agency = "demo", unit = "T1" }}
[[device]]
kind = "can_slcan"
vehicle = "van.toml"
[[uplink.brokers]]
host = "user:{SECRET}@broker"
url = "mqtts://user:{SECRET}@broker:8883"
username = "T1"
password = {{ file = "/etc/mdt/broker-password" }}   # where it is may be told
password = "{SECRET}"
token={SECRET}
other = {{ password = "{SECRET}", port = 1 }}
tls = {{ key_file = "/etc/mdt/client.key" }}
passphrase = '{SECRET}'
"""


def test_what_may_be_a_secret_is_left_out_and_where_it_lies_stays() -> None:
    text = redacted(CONFIG.replace(f'host = "user:{SECRET}@broker"\n', ""))
    assert SECRET not in text
    assert 'password = { file = "/etc/mdt/broker-password" }' in text
    assert 'key_file = "/etc/mdt/client.key"' in text
    assert "mqtts://***@broker:8883" in text
    assert 'unit = "T1"' in text


def test_a_bundle_holds_configuration_vehicle_agent_and_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'status_socket = "mdt.sock"\npassword = "{SECRET}"\nvehicle = "van.toml"\n', encoding="utf-8"
    )
    (tmp_path / "van.toml").write_text('protocol = "j1939"\n', encoding="utf-8")
    monkeypatch.setattr(diag_module, "ask", lambda _, name: {name: "an answer"})
    bundle = tmp_path / "bundle.tar.gz"
    assert diag(None, config, bundle=bundle, as_json=False) == 0
    assert "written" in capsys.readouterr().out
    with tarfile.open(bundle) as archive:
        texts = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            texts[member.name.removeprefix("mdt-bundle/")] = file.read().decode()
    assert set(texts) == {"version.txt", "agent.json", "configuration.toml", "vehicles/van.toml", "log.txt"}
    assert "an answer" in texts["agent.json"]
    assert "j1939" in texts["vehicles/van.toml"]
    assert not any(SECRET in text for text in texts.values())
    assert bundle.stat().st_mode & 0o007 == 0
    assert diag(None, config, bundle=bundle, as_json=False) == 1  # never overwritten


def test_a_bundle_is_made_also_when_the_agent_is_away(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('status_socket = "none.sock"\n', encoding="utf-8")
    assert diag(None, config, bundle=tmp_path / "b.tgz", as_json=False) == 0
    assert diag(None, config, bundle=None, as_json=False) == 69


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("mdt ")
