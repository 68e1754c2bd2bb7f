from __future__ import annotations

from pathlib import Path

import pytest

from agent.hal.errors import HardwareError
from firmware_shims.power_request import PowerRequest


def test_file_is_there_while_the_power_is_to_go(tmp_path: Path) -> None:
    file = tmp_path / "power-off"
    request = PowerRequest(file)
    request.withdraw()
    request.ask()
    request.ask()
    assert file.exists()
    request.withdraw()
    request.withdraw()
    assert not file.exists()


def test_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="No such file"):
        PowerRequest(tmp_path / "absent" / "power-off").ask()
    (tmp_path / "file").write_text("")
    with pytest.raises(HardwareError):
        PowerRequest(tmp_path / "file" / "power-off").withdraw()
