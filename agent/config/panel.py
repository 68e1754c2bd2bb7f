"""The crew's touch page: where it listens, and what the screen in the cab is like."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from agent.config.reading import load_as
from agent.config.section import Section, from_file_folder


class Panel(Section):
    """The crew's touch page, served to the screen in the cab by a process of its own (`mdt-panel`)."""

    socket: Path | None = None
    """Where the daemon and the page meet; without it `panel.sock` beside the status socket."""
    port: int = Field(8088, ge=1, le=65535)
    """Port of the page; it listens on the loopback interface and nowhere else."""
    token_file: Path = Path("/run/mdt-panel/token")
    """Who can read this file may press. Drawn where there is none: in /run, at each start of the computer."""
    language: Literal["en", "de"] = "en"
    """Language of the page's words."""
    tiles: tuple[str, ...] = Field(
        (
            "acknowledged",
            "en_route",
            "on_scene",
            "at_patient",
            "transporting",
            "at_destination",
            "available",
            "out_of_service",
        ),
        min_length=1,
        max_length=8,
    )
    """Keys that have a tile, in this order; the others are under More, and not there while the unit rolls."""
    px_per_mm: float = Field(5.2, gt=1, le=40)
    """Pixels a millimetre of the screen: 5.2 on 800x480 pixels and 154x86 mm."""
    passenger: bool = False
    """The screen is read by a passenger: nothing is locked while the unit rolls."""
    sound: bool = True
    """The page sounds a call; the browser must be allowed to (docs/panel.md)."""
    sound_every_s: float = Field(5, ge=1, le=600)
    """How often a call that nobody acknowledged sounds again."""

    _paths = field_validator("socket", "token_file", mode="after")(
        lambda path, info: None if path is None else from_file_folder(path, info)
    )

    def socket_beside(self, status_socket: Path) -> Path:
        """Where the daemon and the page meet."""
        return status_socket.with_name("panel.sock") if self.socket is None else self.socket


class PanelFile(Section):
    """The part of the agent's file that the page's server reads; the daemon judges the rest."""

    model_config = ConfigDict(extra="ignore")

    panel: Panel = Panel()
    status_socket: Path = Path("/run/mdt/mdt.sock")

    _paths = field_validator("status_socket", mode="after")(from_file_folder)

    @property
    def socket(self) -> Path:
        """Where the daemon and the page meet."""
        return self.panel.socket_beside(self.status_socket)


def load_panel(path: Path) -> PanelFile:
    """The table `[panel]` of a configuration file, and where the daemon is. Raises ConfigError."""
    return load_as(PanelFile, path)
