"""Are passwords and keys there, and only for those who need them?"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from agent.cli.doctor.finding import Finding, Patient, Say


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`."""
    files: list[Path] = []
    for broker in patient.known.uplink.brokers:
        if broker.password is not None and broker.password.file is not None:
            files.append(broker.password.file)
        if broker.tls is not None and broker.tls.key_file is not None:
            files.append(broker.tls.key_file)
    for file in files:
        try:
            mode = file.stat().st_mode
        except OSError as error:
            yield say.bad(
                str(file), f"can not be read: {error.strerror}", "put it there, for the group mdt: mode 0640"
            )
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            yield say.bad(str(file), "everybody on this computer may read it", f"sudo chmod o= {file}")
        else:
            yield say.good(str(file), "is there, and not for everybody")
