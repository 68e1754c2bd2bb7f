"""`mdt-panel`: serve the crew's page until stopped."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import ConfigError
from agent.config.panel import Panel as Settings
from agent.config.panel import load_panel

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_CONFIGURATION = 78
HOST = "127.0.0.1"
TOKEN_BYTES = 24
TOKEN_LETTERS = 32
TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_LETTERS}}}")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page. Returns the exit code: 78 for a configuration that can not be used."""
    parser = argparse.ArgumentParser(prog="mdt-panel", description="The crew's touch page.")
    parser.add_argument("--config", type=Path, default=Path("/etc/mdt/agent.toml"), metavar="FILE")
    parser.add_argument("--address", action="store_true", help="print the address with its token, and end")
    args = parser.parse_args(argv)
    try:
        file = load_panel(args.config)
        settings = file.panel
        token = token_in(settings.token_file)
        if args.address:
            print(f"http://{HOST}:{settings.port}/?token={token}")
            return 0
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_CONFIGURATION
    except OSError as error:
        print(f"{settings.token_file}: {error.strerror}", file=sys.stderr)
        return BAD_CONFIGURATION
    serve(settings, file.socket, token)
    return 0


def token_in(path: Path) -> str:
    """The token that stands there; drawn and written where none does. Raises OSError.

    A page that is open goes on with it when this server is started again. The file is for its user and group.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            found = file.read(TOKEN_LETTERS + 2).strip()
        if TOKEN.fullmatch(found) is not None:
            return found
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    token = secrets.token_urlsafe(TOKEN_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
        file.write(token + "\n")
    return token


def serve(settings: Settings, socket: Path, token: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    import uvicorn

    from agent.panel.daemon_link import DaemonLink
    from agent.panel.server import Panel

    hosts = frozenset({f"{HOST}:{settings.port}", f"localhost:{settings.port}"})
    page = settings.model_dump(include={"language", "px_per_mm", "passenger", "sound", "sound_every_s"})
    panel = Panel(DaemonLink(socket), token=token, hosts=hosts, page=page)
    print(f"The crew's page: http://{HOST}:{settings.port}/?token=$(cat {settings.token_file})", flush=True)
    uvicorn.run(
        panel.app(),
        host=HOST,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    sys.exit(main())
