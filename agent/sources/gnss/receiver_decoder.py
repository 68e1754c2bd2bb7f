"""All that a receiver says on one line, text and binary, becomes fixes."""

from __future__ import annotations

from collections import Counter

from agent.domain.fix import Fix
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.nmea_epoch import EpochAssembler
from agent.sources.gnss.nmea_framing import Frame, NmeaFramer, Rejection
from agent.sources.gnss.nmea_sentence import parse_thoroughly
from agent.sources.gnss.nmea_usual import read_usual
from agent.sources.gnss.sentence import Sentence
from agent.sources.gnss.sky import NAV_SAT, Sky
from agent.sources.gnss.ubx import RadioState, UbxDecoder, UbxFrame, UbxSplitter

_TOLD = 16
"""Epochs that are remembered, to tell the second protocol's word on one from a new one."""


class ReceiverDecoder:
    """Bytes to fixes, without a clock and without waiting: a function of bytes and the times they carry.

    A receiver may speak NMEA and UBX at once. An epoch that both tell becomes one fix, the first.

    Attributes:
        ubx: the binary half, with what the receiver says of its radio.
        sky: what the receiver says of satellites.
        sentences: number of NMEA sentences received with a right checksum.
        rejections: number of rejections by reason.
    """

    def __init__(self) -> None:
        self._splitter = UbxSplitter()
        self._framer = NmeaFramer()
        self._assembler = EpochAssembler()
        self._received_boottime_ns: int | None = None
        self._told: dict[int, str] = {}
        """Who told an epoch first, by its UTC; the newest last."""
        self.ubx = UbxDecoder()
        self.sky = Sky()
        self.sentences = 0
        self.rejections: Counter[Rejection] = Counter()

    @property
    def idle_gap_s(self) -> float | None:
        """How long to wait for more bytes before `idle` is due; None while no epoch is open."""
        is_open = self._assembler.is_open or self.ubx.is_open
        return self._assembler.idle_gap_ns / 1e9 if is_open else None

    @property
    def radio(self) -> RadioState:
        """What the receiver says of its antenna and of interference."""
        return self.ubx.radio

    @property
    def is_inside_frame(self) -> bool:
        """True while the end of a binary message is awaited."""
        return self._splitter.is_inside

    def feed(self, chunk: NmeaBytes) -> list[Fix]:
        """Take what one read of the receiver gave; return the fixes that it completed."""
        now_ns, before_ns = chunk.received_boottime_ns, self._received_boottime_ns
        fixes: list[Fix] = []
        if before_ns is not None and now_ns - before_ns >= self._assembler.idle_gap_ns:
            fixes += self.idle()
        self._received_boottime_ns = now_ns
        for part in self._splitter.feed(chunk.data, now_ns):
            if isinstance(part, UbxFrame):
                if part.message == NAV_SAT:
                    self.sky.take_nav_sat(part.payload, part.received_boottime_ns)
                fixes += self._once("ubx", self.ubx.accept(part))
            else:
                fixes += self._once("nmea", self._read(self._framer.feed(part, now_ns)))
        return fixes

    def idle(self) -> list[Fix]:
        """The receiver paused for `idle_gap_s`: return the fix that was waiting for its end, if any."""
        fixes = self.ubx.idle()
        if fixes:
            fixes = self._once("ubx", fixes)
        return fixes + self._once("nmea", self._assembler.idle())

    def finish(self) -> list[Fix]:
        """The recording is over: return what was waiting."""
        rest = self._framer.feed(self._splitter.finish(), self._received_boottime_ns or 0)
        fixes = self._once("nmea", self._read(rest + self._framer.finish()))
        return fixes + self.idle()

    def _read(self, frames: list[Frame | Rejection]) -> list[Fix]:
        fixes: list[Fix] = []
        accept = self._assembler.accept
        for frame in frames:
            if isinstance(frame, Rejection):
                self.rejections[frame] += 1
                continue
            self.sentences += 1
            body, received_boottime_ns = frame
            sentence = read_usual(body) or self._unusual(body, received_boottime_ns)
            if sentence is not None and (found := accept(sentence, received_boottime_ns)):
                fixes += found
        return fixes

    def _unusual(self, body: str, received_boottime_ns: int) -> Sentence | None:
        """What is left to the thorough reader; None where it says nothing of a fix."""
        if body[2:6] == "GSV,":
            self.sky.take_gsv(body, received_boottime_ns)
            return None
        sentence = parse_thoroughly(body)
        if isinstance(sentence, Rejection):
            self.rejections[sentence] += 1
            return None
        if sentence is not None and sentence.bad_fields:
            self.rejections[Rejection.BAD_FIELD] += 1
        return sentence

    def _once(self, protocol: str, fixes: list[Fix]) -> list[Fix]:
        """Leave out the epochs that the other protocol has told already."""
        if not fixes:
            return fixes
        new = []
        for fix in fixes:
            if fix.utc_ms is not None:
                if self._told.pop(fix.utc_ms, protocol) != protocol:
                    self._told[fix.utc_ms] = "nmea" if protocol == "ubx" else "ubx"
                    continue
                self._told[fix.utc_ms] = protocol
                if len(self._told) > _TOLD:
                    del self._told[next(iter(self._told))]
            new.append(fix)
        return new
