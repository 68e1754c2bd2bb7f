"""An agent that another run left behind is named."""

from __future__ import annotations

from pathlib import Path

from hil.process.leftovers import leftover_agents


def process(proc: Path, pid: int, parent: int, *words: str) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes("\0".join([*words, ""]).encode())
    (folder / "stat").write_text(f"{pid} (mdt) (odd name) S {parent} 1 1 0 -1\n")


def test_an_agent_whose_run_is_gone_and_that_opens_a_pseudo_terminal_is_named(tmp_path: Path) -> None:
    proc, config = tmp_path / "proc", tmp_path / "agent.toml"
    config.write_text('[[device]]\nkind = "gnss_serial"\ndevice = "/dev/pts/7"\n')
    process(proc, 10, 1, "/x/bin/python", "/x/bin/mdt", "run", "--config", str(config))
    process(proc, 11, 1, "/x/bin/mdt", "run", "--config", str(tmp_path / "gone.toml"))
    found = {one.pid: one for one in leftover_agents(proc)}
    assert set(found) == {10, 11}
    assert found[10].devices == ("/dev/pts/7",)
    assert str(found[10]) == f"process 10: mdt run --config {config} (opens /dev/pts/7)"


def test_agents_that_are_looked_after_or_installed_are_none_of_it(tmp_path: Path) -> None:
    proc, bench, vehicle = tmp_path / "proc", tmp_path / "bench.toml", tmp_path / "vehicle.toml"
    bench.write_text('device = "/dev/pts/7"\n')
    vehicle.write_text('device = "/dev/gnss0"\n')
    process(proc, 10, 9, "/x/bin/mdt", "run", "--config", str(bench))
    process(proc, 11, 1, "/opt/mdt/bin/mdt", "run", "--config", str(vehicle))
    process(proc, 12, 1, "/x/bin/mdt", "status", "--config", str(bench))
    process(proc, 13, 1, "grep", "mdt run --config /dev/pts/7")
    (proc / "14").mkdir()
    (proc / "self").mkdir()
    assert leftover_agents(proc) == []
