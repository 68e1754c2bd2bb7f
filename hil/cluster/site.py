"""Everything that a cluster is for: nodes, PostgreSQL, a storer and its standby, and keys for units."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from agent import config
from hil.cluster.rabbitmq import RabbitCluster
from hil.dispatch_process import DispatchProcess
from hil.postgres_process import PostgresProcess

AGENCY = "boston-ems"
_SETTINGS = """\
standby = true
{broker}
{more}
[stream]
replicas = {replicas}
{nodes}
"""


class Site:
    """Started and ended as a whole. Blocking calls.

    Args:
        root: see `rabbitmq.find_root`.
        folder: for keys, stores and logs; a short path.
        units: names that get keys and rights.
        storers: how many services share the store: the first stores, the others stand by.

    Attributes:
        cluster: the brokers.
        postgres: the store's server.
        services: the storers.
        database: URL of the store.
    """

    def __init__(self, root: Path, folder: Path, units: Sequence[str], *, storers: int = 2) -> None:
        self.folder = folder
        self.cluster = RabbitCluster(root, folder / "keys")
        self.postgres = PostgresProcess(folder / "postgres")
        self.units = tuple(units)
        self.services: list[DispatchProcess] = []
        self.database = ""
        self._storers = storers
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.cluster)
            self.cluster.add_units(AGENCY, self.units)
            self._stack.enter_context(self.postgres)
            self.database = self.postgres.new_database()
            settings = self.folder / "dispatch.toml"
            settings.write_text(self._settings())
            for number in range(1, self._storers + 1):
                service = DispatchProcess(
                    self.folder / f"storer{number}", "", store=self.database, settings=settings
                )
                self.services.append(service)
                self._stack.callback(service.kill)
                if number == 1:
                    service.start()
                else:
                    service.launch()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        shutil.rmtree(self.folder / "postgres", ignore_errors=True)

    def brokers_of(self, unit: str, first: int = 0) -> list[config.Broker]:
        """The nodes as a unit's configuration names them, beginning with one of them."""
        nodes = self.cluster.nodes[first:] + self.cluster.nodes[:first]
        return [config.Broker(host="localhost", port=node.mqtt_port, tls=self._tls(unit)) for node in nodes]

    def _tls(self, name: str) -> config.Tls:
        keys = self.cluster.keys
        return config.Tls(
            ca_file=keys / "ca.crt",
            certificate_file=keys / name / f"{name}.crt",
            key_file=keys / name / f"{name}.key",
        )

    def _settings(self) -> str:
        first, *others = self.cluster.nodes
        return _SETTINGS.format(
            broker=self._table("[broker]", "broker", first.mqtt_port),
            more="".join(self._table("[[more_brokers]]", "more_brokers", one.mqtt_port) for one in others),
            replicas=len(self.cluster.nodes),
            nodes="".join(
                self._table("[[stream.nodes]]", "stream.nodes", one.amqp_port) for one in self.cluster.nodes
            ),
        )

    def _table(self, head: str, name: str, port: int) -> str:
        tls = self._tls("dispatch")
        return (
            f'{head}\nhost = "localhost"\nport = {port}\n[{name}.tls]\nca_file = "{tls.ca_file}"\n'
            f'certificate_file = "{tls.certificate_file}"\nkey_file = "{tls.key_file}"\n'
        )
