"""A real PostgreSQL for the tests: that of SETWISE_TEST_POSTGRES_URL, or one of our own from the binaries of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa


class NoPostgresError(Exception):
    """Why there is none; the reason of the skip."""


class Server:
    """A server in a folder of its own; ended with the tests."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
        initdb = found[-1] if found else Path(shutil.which("initdb") or "")
        if not initdb.is_file():
            raise NoPostgresError("no PostgreSQL here: neither SETWISE_TEST_POSTGRES_URL nor initdb (apt-get install postgresql)")
        self.bin, self.data, self.folder = initdb.parent, folder / "data", folder
        self.user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        if self.user:
            shutil.chown(folder, self.user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "setwise", "-E", "UTF8", "--no-locale", "--no-sync")
        self.url = f"postgresql+psycopg://setwise@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        told = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", told, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.bin / program), *map(str, arguments)]
        done = (
            subprocess.run(
                command, user=self.user, group=self.user, extra_groups=[] if self.user else None, capture_output=True, cwd="/"
            )
            if self.user
            else subprocess.run(command, capture_output=True, cwd="/")
        )
        if done.returncode:
            raise NoPostgresError(f"{program} failed: {done.stderr.decode(errors='replace')[-300:]}")


@contextmanager
def own_server() -> Iterator[Server]:
    """Start a server of our own for a while. Raises NoPostgresError."""
    with tempfile.TemporaryDirectory(prefix="setwise-postgres-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            yield server
        finally:
            with suppress(NoPostgresError):  # a test may have stopped it; what failed there must not look like a reason to skip
                server.stop()


@contextmanager
def server_url() -> Iterator[str]:
    """Give the URL of a server. Raises NoPostgresError."""
    if told := os.environ.get("SETWISE_TEST_POSTGRES_URL"):
        yield told
        return
    with own_server() as server:
        yield server.url


@contextmanager
def own_schema(server: str, name: str) -> Iterator[str]:
    """Give the URL of an empty schema on a server, gone afterwards."""
    engine = sa.create_engine(server)
    with engine.begin() as c:
        c.exec_driver_sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        c.exec_driver_sql(f"CREATE SCHEMA {name}")
    try:
        url = sa.make_url(server).update_query_dict({"options": f"-csearch_path={name}"})
        yield url.render_as_string(hide_password=False)
    finally:
        with engine.begin() as c:
            c.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
        engine.dispose()
