"""The scenario language: one TOML file a scenario."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from agent.config import ConfigError, Section, validate
from hil.rig import RigKind
from hil.scenario import expect_calls as calls
from hil.scenario import expect_commands as commands
from hil.scenario import expect_journal as journal
from hil.scenario import expect_records as records
from hil.scenario import expect_state as state
from hil.scenario import fault_computer as computer
from hil.scenario import fault_crew as crew
from hil.scenario import fault_device as device
from hil.scenario import fault_dispatch as dispatch
from hil.scenario import fault_network as network

SCENARIOS = Path(__file__).parent.parent / "scenarios"
"""Where the shipped scenarios lie."""

AnyFault = Annotated[
    network.NetworkCut
    | network.NetworkHalfOpen
    | network.NetworkSlow
    | network.NetworkLossy
    | network.BrokerRestart
    | network.BrokerKill
    | network.BrokerRefuses
    | network.DispatchAway
    | computer.DiskFull
    | computer.DiskReadOnly
    | computer.DiskIoError
    | computer.PowerCut
    | computer.IgnitionOff
    | computer.ProcessKill
    | computer.ProcessFreeze
    | computer.ClockStep
    | device.GnssSilent
    | device.GnssUnplugged
    | device.GnssGarbage
    | device.GnssFrozen
    | device.GnssStuck
    | device.GnssJumping
    | device.GnssRollover
    | device.GnssWrongDate
    | device.CanSilent
    | device.CanBusOff
    | device.CanFlood
    | device.CanHostile
    | device.CanFrames
    | device.ButtonBounce
    | device.ButtonStuck
    | device.ButtonsUnplugged
    | device.ButtonBoxRestart
    | dispatch.DispatchTells
    | crew.CrewDoes,
    Field(discriminator="kind"),
]

AnyExpectation = Annotated[
    journal.EveryPressOnceInOrder
    | journal.PressToStoredWithin
    | journal.PressToDispatchWithin
    | journal.NothingLost
    | journal.SequenceWithoutHoles
    | journal.GapTold
    | journal.PressesNeverEvicted
    | journal.FilledByReplay
    | journal.TimeRightWithin
    | journal.TimeAsTold
    | state.NoPositionWithoutFix
    | state.PositionsNearTruth
    | state.PictureWithin
    | state.EstimatesHonest
    | state.QualityTold
    | state.BackLiveWithin
    | state.OfflineTold
    | state.OfflineToldWithin
    | state.LampsTrue
    | state.HealthReasonSeen
    | state.HealthReasonCleared
    | state.HealthReasonNotSeen
    | state.NoUnitRestarts
    | state.StateTrueAtEnd
    | state.BoundedMemory
    | state.DaemonStarts
    | calls.CallSteps
    | calls.PressesOfIncident
    | calls.IncidentAtEnd
    | commands.CommandOutcomes
    | records.Records,
    Field(discriminator="kind"),
]


class ExtraPress(Section):
    """A press beside those of the drive."""

    at_s: float = Field(ge=0)
    key: str
    held_ms: int = Field(150, ge=20, le=60_000)


class Scenario(Section):
    """The whole file."""

    title: str
    why: str
    """What would go wrong in the field if this did not hold."""
    rigs: tuple[RigKind, ...] = Field(("sim",), min_length=1)
    """Where it runs; the first is taken when none is asked for."""
    drive: str | None = None
    """A shipped drive by name, or a drive file beside the scenario."""
    recording: Path | None = None
    """A recording, relative to the scenario's folder."""
    seed: int = 1
    slow: bool = False
    """Takes longer than 20 s: left to `make test-full`."""
    speed: float = Field(1, gt=0, le=30)
    """Seconds of the drive in one second of the process rig; the simulated rig has time of its own."""
    until_s: float | None = Field(None, gt=0)
    """Drive only so far."""
    can_scale: float = Field(0.2, ge=0, le=1)
    """Part of the bus's frames that are played; a thinner bus makes a long run short."""
    baud: int = Field(9600, ge=4800)
    """Of the receiver's line; at 10 million an epoch comes in one piece, which makes a long run short."""
    coverage: bool = True
    """Whether the network is cut where the drive has no radio coverage."""
    deliver_s: float = Field(120, gt=0)
    """After the drive, the backlog must be gone within so many seconds of the rig."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Put over the vehicle's configuration."""
    faults: tuple[AnyFault, ...] = ()
    presses: tuple[ExtraPress, ...] = ()
    expect: tuple[AnyExpectation, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        if (self.drive is None) == (self.recording is None):
            raise ValueError("give exactly one of `drive` and `recording`")
        for fault in self.faults:
            for rig in self.rigs:
                if rig not in fault.rigs:
                    raise ValueError(f"fault {fault.name} can not be had on the {rig} rig")
        timed = any(isinstance(one, journal.TimeRightWithin) for one in self.expect)
        if timed and self.speed != 1 and "process" in self.rigs:
            raise ValueError("time_right_within needs speed = 1: a fast drive has no true time")
        return self


def scenario_path(name: str | Path) -> Path:
    """The file of a shipped scenario by its name, or the path itself when it names a file."""
    path = Path(name)
    return path if path.suffix == ".toml" else SCENARIOS / f"{name}.toml"


def scenario_names() -> list[str]:
    """Names of the shipped scenarios."""
    return sorted(path.stem for path in SCENARIOS.glob("*.toml"))


def read_scenario(name: str | Path) -> Scenario:
    """Read a scenario by name or path. Raises ConfigError with every problem at once."""
    path = scenario_path(name)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            [f"{path}: no such scenario; `python -m hil list` tells which there are"]
        ) from error
    except OSError as error:
        raise ConfigError([f"{path}: can not be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return validate(Scenario, table, path)
