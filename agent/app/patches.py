"""The configuration in use: the vehicle's own file, and over it what was changed from afar.

The file stays the user's own. What was changed lies in `patch.json` beside the store, the one folder that
the service may write to. A change is on trial first: it holds once the link stood under it, and is taken back
when it did not in time, or when the agent did not stay up. Each start under a trial is counted on the disk
before the trial is used, so that one that kills the agent at its start ends as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.config import Config, ConfigError, parse_toml, read_toml
from agent.config.patch import Patch, PatchError, joined, laid_over, leaves
from agent.config.plain_words import shown
from agent.runtime.log import EventLog
from agent.runtime.whole_file import write_whole

log = EventLog("config")

MOST_STARTS: Final = 3
"""So many starts a trial gets: the one that applies it, and two for power cuts."""
MOST_BYTES: Final = 64 * 1024
FILE_NAME: Final = "patch.json"
_VERSION: Final = 1

Validate = Callable[[dict[str, Any], Path], Config]


@dataclass(frozen=True, slots=True)
class Trial:
    """A change that is not confirmed yet.

    Attributes:
        id: of the command that asked for it.
        patch: all that is to hold over the file.
        within_s: so soon after a start the link must be back.
        starts: how often the agent was started under it.
    """

    id: str
    patch: Patch
    within_s: float
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a change, until whoever asked for it was told.

    Attributes:
        id: of the command that asked for it.
        why: why it was taken back; empty when it holds.
    """

    id: str
    why: str


@dataclass(frozen=True, slots=True)
class _OnDisk:
    base: str = ""
    kept: Patch = field(default_factory=dict)
    trial: Trial | None = None
    verdict: Verdict | None = None


class Patches:
    """What is changed from afar. The methods that write block, and raise OSError when the disk refuses.

    Attributes:
        path: the vehicle's own file.
        in_use: the patch that the running configuration has over the file.
        left_out: why a change that was confirmed is not in use any more; empty when that is not so.
    """

    def __init__(
        self, own: Config, table: Mapping[str, Any], path: Path, validate: Validate, *, base: str
    ) -> None:
        """Store the parts; `begin` reads what is there.

        Args:
            own: what the vehicle's own file says.
            table: the same as a table, not validated.
            path: that file.
            validate: makes a configuration of a table. Raises ConfigError.
            base: digest of the file: when a person has changed it, that person has the last word.
        """
        self._own = own
        self._table = table
        self.path = path
        self._file = own.store.directory / FILE_NAME
        self._validate = validate
        self._base = base
        self._state = _OnDisk(base)
        self.in_use: Patch = {}
        self.left_out = ""

    @property
    def trial(self) -> Trial | None:
        """The change that is on trial in this run."""
        return self._state.trial

    @property
    def verdict(self) -> Verdict | None:
        """What became of the last change, as long as nobody was told."""
        return self._state.verdict

    def begin(self) -> Config:
        """The configuration to run.

        A disk that refuses to count a start gets no trial: nothing would ever end it.
        """
        before = state = self._read()
        if state.base != self._base and (state.kept or state.trial):
            self.left_out = "the vehicle's own file was changed since"
            state = self._without(replace(state, base=self._base, kept={}), self.left_out)
        if (trial := state.trial) is not None:
            config, why = self._tried(trial.patch)
            counted = replace(state, trial=replace(trial, starts=trial.starts + 1))
            if trial.starts >= MOST_STARTS:
                state = self._without(state, f"the agent did not stay up in {MOST_STARTS} starts under it")
            elif config is None:
                state = self._without(state, why)
            elif self._is_written(counted):
                self.in_use = trial.patch
                return config
            else:
                state = replace(state, trial=None)
        config, why = self._tried(state.kept) if state.kept else (None, "")
        if config is not None:
            self.in_use = state.kept
        elif state.kept:
            self.left_out, state = why, replace(state, kept={})
        self._state = state
        if self.left_out:
            log.error("patch_left_out", why=self.left_out)
        if state != before:
            self._is_written(state)
        return config or self._own

    def look(self) -> None:
        """See what is there without changing it, as somebody who only looks."""
        self._state = self._read()
        if self._state.base == self._base:
            self.in_use = self._state.kept
        elif self._state.kept:
            self.left_out = "the vehicle's own file was changed since"

    def _is_written(self, state: _OnDisk) -> bool:
        try:
            self._write(state)
        except OSError as error:
            log.error("patch_not_kept", why=error.strerror)
            return False
        return True

    def propose(self, id_: str, patch: Patch, within_s: float) -> None:
        """Put a change on trial with the next start. An empty one gives everything back to the file.

        Raises:
            PatchError: a key may not be changed, or the configuration would not be good.
            OSError: the disk refuses.
        """
        if self._state.trial is not None:
            raise PatchError("another change is on trial; ask again when it is over")
        whole = joined(self._state.kept, patch) if patch else {}
        if len(json.dumps(whole)) > MOST_BYTES // 4:
            raise PatchError("with what was changed before it is too large")
        config, why = self._tried(whole)
        if config is None:
            raise PatchError(why)
        self._write(replace(self._state, base=self._base, trial=Trial(id_, whole, within_s)))

    def confirm(self) -> None:
        """The change holds from now on."""
        trial = self._state.trial
        if trial is not None:
            self._write(replace(self._state, kept=trial.patch, trial=None, verdict=Verdict(trial.id, "")))

    def roll_back(self, why: str) -> None:
        """Take the change back that is on trial; true with the next start."""
        if self._state.trial is not None:
            self._write(self._without(self._state, why))

    def told(self) -> None:
        """Whoever asked for the change knows what became of it."""
        if self._state.verdict is not None:
            self._write(replace(self._state, verdict=None))

    def snapshot(self) -> dict[str, Any]:
        """For `mdt status`: what is changed from afar, JSON-able."""
        return {
            "changed": {place: shown(value) for place, value in leaves(self.in_use)},
            "on_trial": self._state.trial is not None,
            "left_out": self.left_out,
        }

    def _tried(self, patch: Patch) -> tuple[Config | None, str]:
        try:
            return self._validate(laid_over(self._table, patch), self.path), ""
        except PatchError as error:
            return None, str(error)
        except ConfigError as error:
            return None, error.problems[0].removeprefix(f"{self.path}: ")

    @staticmethod
    def _without(state: _OnDisk, why: str) -> _OnDisk:
        verdict = state.verdict if state.trial is None else Verdict(state.trial.id, why)
        return replace(state, trial=None, verdict=verdict)

    def _read(self) -> _OnDisk:
        try:
            with self._file.open("rb") as opened:
                raw = opened.read(MOST_BYTES)
            return _from_json(json.loads(raw))
        except FileNotFoundError:
            return _OnDisk(self._base)
        except OSError as error:
            self.left_out = f"{self._file.name}: {error.strerror}"
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.left_out = f"{self._file.name} is garbled"
        return _OnDisk(self._base)

    def _write(self, state: _OnDisk) -> None:
        raw = json.dumps(_to_json(state)).encode()
        write_whole(self._file, raw, 0o640)  # no secret can be in it, and a technician may see it
        self._state = state


def configured(path: Path, load: Callable[[Path], Config], validate: Validate) -> tuple[Config, Patches]:
    """The configuration to run, of a file and what was changed from afar. Raises ConfigError."""
    patches = patches_of(path, load(path), validate)
    return patches.begin(), patches


def patches_of(path: Path, own: Config, validate: Validate) -> Patches:
    """What lies over a file that was loaded, not yet read. Raises ConfigError."""
    text = read_toml(path)
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]
    return Patches(own, parse_toml(text, path), path, validate, base=digest)


def _to_json(state: _OnDisk) -> dict[str, Any]:
    trial, verdict = state.trial, state.verdict
    return {
        "v": _VERSION,
        "base": state.base,
        "kept": state.kept,
        "trial": None
        if trial is None
        else {"id": trial.id, "patch": trial.patch, "within_s": trial.within_s, "starts": trial.starts},
        "verdict": None if verdict is None else {"id": verdict.id, "why": verdict.why},
    }


def _from_json(given: Any) -> _OnDisk:
    if given["v"] != _VERSION or not isinstance(given["kept"], dict):
        raise ValueError("of another version")
    trial, verdict = given["trial"], given["verdict"]
    if trial is not None and not isinstance(trial["patch"], dict):
        raise ValueError("no patch")
    return _OnDisk(
        str(given["base"]),
        given["kept"],
        None
        if trial is None
        else Trial(str(trial["id"]), trial["patch"], float(trial["within_s"]), int(trial["starts"])),
        None if verdict is None else Verdict(str(verdict["id"]), str(verdict["why"])),
    )
