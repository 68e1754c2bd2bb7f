"""mdt record: the drivers' own reads, on one timeline, in one file."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from firmware_shims.simulated.slcan_adapter import PtySlcanAdapter
from hil.drive.items import ButtonItem, CanItem, NmeaItem
from hil.drive.shift import load_shift
from hil.process.process_rig import ProcessRig
from hil.recording.mcap_file import RecordingReader

MDT = str(Path(sys.executable).parent / "mdt")


def test_a_recording_of_the_rig_holds_what_its_devices_said() -> None:
    async def main(folder: Path) -> None:
        out = folder / "shift.mcap"
        async with ProcessRig(folder) as rig:
            recording = await asyncio.create_subprocess_exec(
                MDT, "record", "--config", str(rig.config_file), "--out", str(out)
            )
            assert isinstance(rig.adapter, PtySlcanAdapter)
            await rig.adapter.wait_open()
            async with asyncio.timeout(10):
                while not rig.receiver.is_heard:
                    await asyncio.sleep(0.02)
            shift = load_shift("emergency_call", 1)
            await rig.play(shift.items(), speed=30)
            recording.terminate()
            assert await recording.wait() == 0
        reader = RecordingReader(out)
        items = list(reader.items())
        kinds = Counter(type(item) for item in items)
        assert reader.found.damage is None
        # However many reads it took: what the receiver said, whole and in order.
        said = b"".join(item.data for item in shift.items() if isinstance(item, NmeaItem))
        recorded = b"".join(item.data for item in items if isinstance(item, NmeaItem))
        assert len(recorded) > len(said) / 2
        assert recorded in said
        assert kinds[CanItem] > 5000
        # Both edges of each press, once, although the box says them again: nobody acknowledges them.
        assert kinds[ButtonItem] == 2 * len(shift.presses)

    with tempfile.TemporaryDirectory(prefix="mdt-") as folder:
        asyncio.run(main(Path(folder)))


async def run_record(config: Path, out: Path) -> tuple[int | None, str]:
    """Exit code and what was said of a recording of a second."""
    recording = await asyncio.create_subprocess_exec(
        MDT,
        "record",
        "--config",
        str(config),
        "--out",
        str(out),
        "--for",
        "1",
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await recording.communicate()
    return recording.returncode, said.decode()


def test_beside_a_running_agent_it_refuses_and_says_why() -> None:
    async def main(folder: Path) -> None:
        async with ProcessRig(folder) as rig:
            await rig.boot()
            code, said = await run_record(rig.config_file, folder / "out.mcap")
            assert code == 69
            assert "the agent is running and has the devices" in said
            assert not (folder / "out.mcap").exists()

    with tempfile.TemporaryDirectory(prefix="mdt-") as folder:
        asyncio.run(main(Path(folder)))


def test_a_recording_in_which_nothing_was_heard_is_no_success(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    text = "[unit]\nagency = 'a'\nunit = 'b'\n[[uplink.brokers]]\nhost = 'b'\nallow_plaintext = true\n"
    config.write_text(text)
    out = tmp_path / "out.mcap"
    code, said = asyncio.run(run_record(config, out))
    assert code == 78
    assert "no [[device]] to record" in said
    config.write_text(text + "[[device]]\nkind = 'gnss_serial'\ndevice = '/dev/no-such'\n")
    code, said = asyncio.run(run_record(config, out))
    assert code == 1
    assert "gnss: nothing was heard: /dev/no-such: No such file or directory" in said
    assert "no device said anything" in said
    assert not out.exists()
