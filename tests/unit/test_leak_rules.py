"""The leak rules catch what they promise to catch."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LEAKY_TASK = """
import asyncio

def test_leaks():
    async def main():
        asyncio.create_task(asyncio.sleep(60), name="forgotten")
        await asyncio.sleep(0)
    asyncio.run(main())
"""
LEAKY_THREAD = """
import threading

def test_leaks():
    threading.Thread(target=threading.Event().wait, args=(30,), name="forgotten", daemon=True).start()
"""


@pytest.mark.parametrize("source", [LEAKY_TASK, LEAKY_THREAD], ids=["task", "thread"])
def test_a_leak_fails_the_test_that_leaked(
    source: str, checkout: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    pytester.makeconftest((checkout / "tests" / "conftest.py").read_text())
    pytester.makepyfile(source)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.stdout.fnmatch_lines(["*leaked: ?'forgotten'?*"])
    assert result.ret != 0
