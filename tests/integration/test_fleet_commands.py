"""Commands to the vehicle: the real daemon, a real broker, restarts, cuts and hostile askers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from agent.app.fleet_parts import MOST_RESTARTS
from agent.config import Broker
from agent.domain.record import CommandResult, Readiness
from agent.uplink.link.link import LinkEvent, Opened, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from agent.wire.reader_request import Reply, decode_reply
from agent.wire.topics import Topics
from hil.broker_process import find_mosquitto
from hil.process.process_rig import ProcessRig
from hil.process.vehicle_config import AGENCY, UNIT
from hil.rig import NetworkCondition

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(240),
]
WITHIN_S = 90.0
TOPICS = Topics(AGENCY, UNIT)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


class Fleet:
    """The rig, and what fleet services say and hear."""

    def __init__(self, rig: ProcessRig) -> None:
        self.rig = rig

    def tell(self, name: str, id_: str, /, **fields: Any) -> None:
        payload = json.dumps({"id": id_, "by": "fleet-desk", **fields}).encode()
        self.rig.dispatch.say(TOPICS.command(name), payload)

    def replies(self, id_: str) -> list[Reply]:
        return [one for one in self.rig.dispatch.replies if one.id == id_]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                while not holds():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"never: {what}\n{self.rig.dispatch.replies}\n{self.rig.agent.log_tail()}")

    async def outcome(self, id_: str, count: int = 1) -> Reply:
        await self.until(lambda: len(self.replies(id_)) >= count, f"{count} answers to {id_}")
        return self.replies(id_)[count - 1]

    async def ended(self, id_: str) -> Reply:
        """The first answer that is not only a promise."""

        def last() -> list[Reply]:
            return [one for one in self.replies(id_) if one.outcome != "accepted"]

        await self.until(lambda: bool(last()), f"the end of {id_}")
        return last()[0]

    async def connected(self) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not ((await self.rig.agent.status()) or {"link": {}})["link"].get("connected"):
                await asyncio.sleep(0.05)

    def journal(self) -> list[tuple[str, str, str | None, str | None]]:
        bodies = [one.record.body for one in self.rig.dispatch.arrivals]
        return [
            (one.command, one.outcome, one.request, one.by)
            for one in bodies
            if isinstance(one, CommandResult)
        ]


@asynccontextmanager
async def fleet(folder: Path, **overrides: Any) -> AsyncIterator[Fleet]:
    async with ProcessRig(folder, overrides={"store": {"group_commit_s": 0.2}, **overrides}) as rig:
        await rig.boot()
        there = Fleet(rig)
        await there.connected()
        yield there


def result_of(reply: Reply) -> Any:
    assert reply.result is not None, reply
    return json.loads(reply.result)


def test_each_command_is_answered_and_journalled_with_who_and_what(folder: Path) -> None:
    async def main() -> None:
        async with fleet(folder) as there:
            there.tell("ping", "p-1")
            assert result_of(await there.outcome("p-1"))["version"]
            there.tell("diagnostics", "d-1")
            report = result_of(await there.outcome("d-1"))
            assert report["version"]
            assert "health" in report
            assert "position" not in report
            assert "crew" not in report
            there.tell("set-rate", "r-1", every_s=1, for_s=30)
            assert (await there.outcome("r-1")).outcome == "done"
            there.tell("service", "s-1", item="nothing_of_the_kind")
            assert (await there.outcome("s-1")).reason == "nothing_there"
            there.tell("signals", "g-1", names=["No.Such"], every_s=1, for_s=5)
            assert (await there.outcome("g-1")).reason == "nothing_there"
            there.tell("ping", "old", until="2020-01-01T00:00:00+00:00")
            assert (await there.outcome("old")).reason in ("expired", "time_unknown")
            there.tell("acknowledge", "a-1", journal=1, seq=1)
            assert (await there.outcome("a-1")).reason == "other_journal"
            await there.until(lambda: len(there.journal()) >= 7, "the journal tells of each")
            assert ("ping", "done", "p-1", "fleet-desk") in there.journal()
            assert ("service", "refused", "s-1", "fleet-desk") in there.journal()
            status = await there.rig.agent.status()
            assert status is not None
            assert status["commands"]["ping"]["taken"] == 2

    asyncio.run(main())


def test_what_the_configuration_does_not_allow_is_refused(folder: Path) -> None:
    async def main() -> None:
        async with fleet(folder, commands={"allowed": ["ping"]}) as there:
            there.tell("restart", "r-1")
            assert (await there.outcome("r-1")).reason == "not_allowed"
            there.tell("ping", "p-1")
            assert (await there.outcome("p-1")).outcome == "done"
            assert there.rig.agent.deaths == []

    asyncio.run(main())


def test_a_restart_is_done_once_for_its_id_and_tells_when_it_is_over(folder: Path) -> None:
    """[MDT-O-01] [MDT-O-04]"""

    async def main() -> None:
        async with fleet(folder) as there:
            await there.until(lambda: "link" in there.rig.dispatch.states, "the birth")
            session = there.rig.dispatch.states["link"]
            there.tell("restart", "r-1", reason="a new version")
            assert (await there.outcome("r-1")).outcome == "accepted"
            assert (await there.ended("r-1")).text == "it was started anew"
            again = there.rig.dispatch.states["link"]
            assert again != session
            there.tell("restart", "r-1", reason="a new version")
            await there.outcome("r-1", 3)
            assert there.replies("r-1")[2].outcome == "done"
            there.tell("restart", "r-1", reason="another reason")
            assert (await there.outcome("r-1", 4)).reason == "id_reused"
            assert there.rig.agent.deaths == [], "one process, whoever started it sees no end"
            assert there.rig.dispatch.states["link"] == again
            there.tell("ping", "p-1")
            await there.outcome("p-1")

    asyncio.run(main())


@pytest.mark.slow
def test_restarts_by_command_are_few_whatever_the_ids(folder: Path) -> None:
    """Each start refills the limits that are not kept; this one is."""

    async def main() -> None:
        async with fleet(folder) as there:
            for number in range(MOST_RESTARTS):
                there.tell("restart", f"r-{number}")
                assert (await there.ended(f"r-{number}")).outcome == "done"
            there.tell("restart", "r-last")
            assert (await there.ended("r-last")).reason == "busy"
            there.tell("config", "c-last", patch={"log": {"level": "debug"}})
            assert (await there.ended("c-last")).reason == "busy"

    asyncio.run(main())


def test_a_patch_holds_once_the_link_stood_under_it(folder: Path) -> None:
    async def main() -> None:
        async with fleet(folder) as there:
            own = there.rig.config_file.read_bytes()
            there.tell("config", "c-1", patch={"reporting": {"health_interval_s": 7}})
            assert (await there.outcome("c-1")).outcome == "accepted"
            assert (await there.ended("c-1")).outcome == "done"
            status = await there.rig.agent.status()
            assert status is not None
            assert status["config"] == {
                "changed": {"reporting.health_interval_s": "7"},
                "on_trial": False,
                "left_out": "",
            }
            assert there.rig.config_file.read_bytes() == own
            await there.rig.kill()
            await there.connected()
            status = await there.rig.agent.status()
            assert status is not None
            assert status["config"]["changed"], "it holds after a crash, too"
            there.tell("config", "c-2", patch={})
            assert (await there.ended("c-2")).outcome == "done"
            status = await there.rig.agent.status()
            assert status is not None
            assert status["config"]["changed"] == {}

    asyncio.run(main())


def test_a_broker_that_is_not_there_is_taken_back_by_itself(folder: Path) -> None:
    """[MDT-O-06]"""

    async def main() -> None:
        async with fleet(folder) as there:
            patch = {"uplink": {"brokers": {"0": {"port": 9}}}}
            there.tell("config", "c-1", patch=patch, confirm_within_s=12)
            assert (await there.outcome("c-1")).outcome == "accepted"
            await asyncio.sleep(4)
            await there.rig.kill()  # in the middle, too
            ended = await there.ended("c-1")
            assert (ended.outcome, ended.reason) == ("refused", "rolled_back")
            assert "12 s" in (ended.text or "")
            status = await there.rig.agent.status()
            assert status is not None
            assert status["config"]["changed"] == {}
            await there.until(
                lambda: ("config", "refused", "c-1", "fleet-desk") in there.journal(), "the journal tells it"
            )

    asyncio.run(main())


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"unit": {"unit": "A2"}}, "unit.unit"),
        ({"uplink": {"brokers": {"0": {"password": {"file": "/etc/shadow"}}}}}, "password"),
        ({"uplink": {"brokers": {"0": {"tls": {"ca_file": "x"}}}}}, "tls"),
        ({"uplink": {"brokers": {"7": {"port": 1}}}}, "counted from 0"),
        ({"commands": {"allowed": ["restart"]}}, "commands.allowed"),
        ({"store": {"directory": "/"}}, "store.directory"),
        ({"reporting": {"max_age_s": -1}}, "must be above 0"),
        ({"reporting": {"max_aeg_s": 1}}, "max_aeg_s"),
        ({"reporting.max_age_s": 1}, "reporting.max_age_s"),
        ({"reporting": 5}, "reporting"),
        ({"status_socket": "/tmp/x"}, "status_socket"),
    ],
)
def test_what_can_not_be_patched_changes_nothing(folder: Path, patch: dict[str, Any], words: str) -> None:
    from agent.app.devices import load, validate
    from agent.app.patches import patches_of
    from agent.config.patch import PatchError

    file = folder / "agent.toml"
    file.write_text(
        f"""status_socket = "{folder}/s"
unit = {{ agency = "a", unit = "A1" }}
store = {{ directory = "{folder}/store" }}
[[uplink.brokers]]
host = "h"
username = "u"
password = {{ file = "/etc/mdt/password" }}
allow_plaintext = true
""",
        encoding="utf-8",
    )
    patches = patches_of(file, load(file), validate)
    config = patches.begin()
    with pytest.raises(PatchError, match=words.replace(".", r"\.")):
        patches.propose("c-1", patch, 60)
    assert not (folder / "store" / "patch.json").exists()
    assert patches_of(file, load(file), validate).begin() == config


def test_a_recording_is_fetched_across_a_cut_and_no_other_file_is(folder: Path) -> None:
    """[MDT-O-07]"""

    async def main() -> None:
        async with fleet(folder, commands={"fetch_bytes_per_s": 60_000}) as there:
            kept = folder / "store" / "kept"
            kept.mkdir()
            content = bytes(range(256)) * 600
            (kept / "000001-abcd.mcap").write_bytes(content)
            (folder / "secret.mcap").write_bytes(b"secret")
            (kept / "000002-link.mcap").symlink_to(folder / "secret.mcap")
            there.tell("fetch", "f-0", what="recording")
            listed = result_of(await there.outcome("f-0"))
            assert {"name": "000001-abcd.mcap", "size": len(content)} in listed["files"]
            for number, name in enumerate(
                ("../../etc/passwd", "../agent.toml", "000002-link", "/etc/passwd")
            ):
                there.tell("fetch", f"x-{number}", what="recording", name=name)
                assert (await there.outcome(f"x-{number}")).reason == "nothing_there"
            there.tell("fetch", "f-1", what="recording", name="000001-abcd")
            await there.outcome("f-1", 6)
            await there.rig.set_network(NetworkCondition(cut=True))
            await asyncio.sleep(3)
            await there.rig.set_network(NetworkCondition())
            ended = await there.ended("f-1")
            assert ended.outcome == "done", ended
            pieces = [result_of(one) for one in there.replies("f-1") if '"data"' in (one.result or "")]
            whole = bytearray(len(content))
            for piece in pieces:
                raw = base64.b64decode(piece["data"])
                whole[piece["offset"] : piece["offset"] + len(raw)] = raw
            assert bytes(whole) == content
            assert result_of(ended)["sha256"] == hashlib.sha256(content).hexdigest()
            there.tell("fetch", "f-2", what="recording", name="000001-abcd", offset=len(content) - 10)
            assert result_of(await there.ended("f-2"))["sha256"] == hashlib.sha256(content).hexdigest()
            last = result_of(next(one for one in there.replies("f-2") if '"data"' in (one.result or "")))
            assert base64.b64decode(last["data"]) == content[-10:]

    asyncio.run(main())


def test_a_bundle_is_made_and_fetched_without_secrets(folder: Path) -> None:
    async def main() -> None:
        async with fleet(folder, commands={"fetch_bytes_per_s": 1_000_000}) as there:
            there.tell("fetch", "f-1", what="bundle")
            assert (await there.ended("f-1")).outcome == "done"
            pieces = [result_of(one) for one in there.replies("f-1") if '"data"' in (one.result or "")]
            raw = b"".join(base64.b64decode(piece["data"]) for piece in pieces)
            with tarfile.open(fileobj=BytesIO(raw)) as archive:
                names = {Path(one.name).name for one in archive.getmembers()}
            assert {"agent.json", "configuration.toml", "log.txt", "version.txt"} <= names
            for number in range(3):
                there.tell("fetch", f"more-{number}", what="bundle")
            assert (await there.ended("more-2")).reason == "busy"

    asyncio.run(main())


def test_answers_go_to_the_units_own_topics_only_and_repeat_the_correlation_data(folder: Path) -> None:
    """[MDT-Q-08]"""

    async def main() -> None:
        async with fleet(folder) as there:
            heard: list[Received] = []
            opened = asyncio.Event()

            def on_event(event: LinkEvent) -> None:
                if isinstance(event, Opened):
                    opened.set()
                elif isinstance(event, Received):
                    heard.append(event)

            link = PahoLink()
            broker = Broker(host=there.rig.broker.host, port=there.rig.broker.port, allow_plaintext=True)
            link.open(Opening(broker, "asker", 10, 5, subscriptions=("#",)), on_event)
            try:
                async with asyncio.timeout(WITHIN_S):
                    await opened.wait()
                own = TOPICS.reply("ping").removesuffix("ping") + "fleet"
                say = there.rig.dispatch.say
                command = TOPICS.command("ping")
                say(command, b'{"id": "own"}', response_topic=own, correlation=b"\x00\xff")
                stranger = Topics(AGENCY, "A2").command("restart")
                say(command, b'{"id": "hostile"}', response_topic=stranger, correlation=b"7")
                say(command, b'{"id": "up"}', response_topic=TOPICS.state("link"))
                say(command, b'{"id": "deep"}', response_topic=f"{own}/deeper")
                say(command, b'{"id": "large"}', correlation=bytes(3_000))
                say(command, b'{"id": "huge"}', correlation=bytes(12_000))
                say(command, b'{"id": "last"}')
                await there.outcome("last")
                await there.until(lambda: any(one.topic == own for one in heard), "the answer")
                (answer,) = [one for one in heard if one.topic == own]
                assert answer.correlation == b"\x00\xff"
                assert decode_reply(answer.payload).id == "own"
                assert not [one for one in heard if one.topic == stranger]
                reasons = [one.reason for one in there.rig.dispatch.replies if one.command == "ping"]
                assert reasons.count("bad_response_topic") == 3
                assert there.replies("hostile")[0].reason == "bad_response_topic"
                assert reasons.count("malformed") == 1
                assert not there.replies("huge")
                status = await there.rig.agent.status()
                assert status is not None
                assert status["link"]["connections"] == 1, "nobody can talk the unit off its broker"
            finally:
                await link.close()

    asyncio.run(main())


def test_a_hostile_dispatch_floods_each_command_and_costs_nothing_but_counts(folder: Path) -> None:
    async def main() -> None:
        async with fleet(folder) as there:
            before = there.rig.agent.memory_kib
            assert before is not None
            hostile: dict[str, bytes] = {
                "ping": b'{"id": "x", "by": "' + b"y" * 60 + b'"}',
                "diagnostics": b'{"id": "x"}',
                "set-rate": b'{"id": "x", "every_s": 1e999, "for_s": 1}',
                "signals": b'{"id": "x", "names": ["'
                + b'","'.join([b"Speed"] * 50)
                + b'"], "every_s": 1, "for_s": 1}',
                "service": b'{"id": "x", "item": "' + b"\\u0000" * 60 + b'"}',
                "config": b'{"id": "x", "patch": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
                "fetch": b'{"id": "x", "what": "recording", "name": "../../etc/passwd"}',
                "acknowledge": b'{"id": "x", "journal": -1, "seq": 99999999999999999999}',
                "keep": b'{"id": "x", "why": 7}',
            }
            for _ in range(300):
                for name, payload in hostile.items():
                    there.rig.dispatch.say(TOPICS.command(name), payload)
            patch = {"log": {str(number): "x" * 500 for number in range(2000)}}
            there.tell("config", "large", patch=patch)  # 1 MB: no unit gets it
            await there.rig.box.click("on_scene", hold_s=0.02)
            states = there.rig.dispatch.states
            await there.until(
                lambda: getattr(states.get("status"), "status", None) == "on_scene",
                "the press is not held up",
            )
            log = there.rig.agent.log_file
            await there.until(lambda: "dropped=" in log.read_text(encoding="utf-8"), "the flood is told")
            status = await there.rig.agent.status()
            assert status is not None
            assert status["link"]["connections"] == 1
            assert status["config"]["changed"] == {}
            assert status["commands"]["config"]["refused"] > 0
            assert not there.replies("large")
            after = there.rig.agent.memory_kib
            assert after is not None
            assert after < before + 8_192, "a flood takes no memory"
            assert there.rig.agent.deaths == []

    asyncio.run(main())


def test_figures_and_readiness_are_told_on_the_vehicle(folder: Path) -> None:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]

    async def main() -> None:
        async with fleet(folder, metrics={"port": port}) as there:
            there.rig.command("crew", "s-1", crew=["C1", "C2"], driver="C1")
            await there.until(
                lambda: any(isinstance(one.record.body, Readiness) for one in there.rig.dispatch.arrivals),
                "the shift's beginning is on record",
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(WITHIN_S):
                answer = (await reader.read()).decode()
            writer.close()
            assert "mdt_connected 1.0" in answer
            assert answer.rstrip().endswith("# EOF")
            process = await asyncio.create_subprocess_exec(
                *there.rig.agent.command[:1], "ready", "--config", str(there.rig.config_file),
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, _ = await process.communicate()
            assert b"Dispatch can be reached." in out
            assert b"There is no position" in out
            assert process.returncode == 1

    asyncio.run(main())
