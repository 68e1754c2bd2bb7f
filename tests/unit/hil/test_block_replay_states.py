from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hil.kernel.block_replay import Promise, Recording, choose_states
from hil.kernel.write_log import Mark, Write, read_write_log

SECTOR = 512


def entry(sector: int, data: bytes, flags: int) -> bytes:
    """An entry as the kernel writes it; a mark's text stands in the entry's own sector."""
    if flags & 8:
        return (struct.pack("<QQQQ", 0, 0, flags, len(data)) + data).ljust(SECTOR, b"\0")
    return struct.pack("<QQQQ", sector, len(data) // SECTOR, flags, 0).ljust(SECTOR, b"\0") + data


def test_a_log_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    entries = [
        entry(8, b"a" * 1024, 0),
        entry(0, b"", 1),
        entry(0, b"ACK:1:1:99:0\0", 8),
        struct.pack("<QQQQ", 4, 2, 4, 0).ljust(SECTOR, b"\0"),
        entry(16, b"b" * 512, 2),
    ]
    header = struct.pack("<QQQI", 0x6A736677736872, 1, len(entries), SECTOR).ljust(SECTOR, b"\0")
    path = tmp_path / "log.img"
    path.write_bytes(header + b"".join(entries))
    first, flush, mark, fua = list(read_write_log(path))
    assert first == Write(8, memoryview(b"a" * 1024), is_barrier=False)
    assert isinstance(flush, Write)
    assert flush.is_barrier
    assert not flush.data
    assert mark == Mark("ACK:1:1:99:0")
    assert isinstance(fua, Write)
    assert fua.is_barrier
    assert bytes(fua.data) == b"b" * 512


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.img"
    path.write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="not a write log"):
        list(read_write_log(path))


def recording() -> Recording:
    """Ten writes of two sectors, every fourth a barrier; a promise after the first and the second barrier."""
    writes = tuple(Write(i * 2, memoryview(bytes([i]) * 1024), is_barrier=i % 4 == 3) for i in range(12))
    promises = ((4, Promise(1, 1, 0, 0)), (8, Promise(2, 2, 0, 0)))
    return Recording(bytes(32 * SECTOR), writes, (3, 7, 11), promises)


def test_a_crash_state_keeps_all_up_to_a_flush_and_any_part_of_the_rest() -> None:
    states = choose_states(recording(), 200, seed=1)
    assert [state.durable for state in states] == sorted(state.durable for state in states)
    assert {state.durable for state in states} == {4, 8}
    for state in states:
        end = 7 if state.durable == 4 else 11
        assert all(state.durable <= index <= end for index, _ in state.survivors)
        # The second promise was made after the second flush.
        assert state.promised == (1 if end == 7 else 2)
    assert any(sectors == 1 for state in states for _, sectors in state.survivors), "some are torn"
    assert any(not state.survivors for state in states), "some lose all"
    assert choose_states(recording(), 200, seed=1) == states
    assert choose_states(recording(), 200, seed=2) != states


def test_a_lying_card_may_lose_what_it_called_flushed() -> None:
    assert {state.durable for state in choose_states(recording(), 50, seed=1, lying=True)} == {0}
