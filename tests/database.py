"""A real PostgreSQL on this machine's loopback, where Debian's packages (or others) brought one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "s3cret-of-no-account"


def _programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``; Debian keeps it off the PATH."""
    on_path = shutil.which("initdb")
    folders = [
        *([Path(on_path).resolve().parent] if on_path else []),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    ]
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server's databases, without password: ``PGPASSWORD`` has it until the end."""
    pytest.importorskip("psycopg")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    # It refuses to be run by root.
    users = (account.pw_name for account in pwd.getpwall())
    is_root = os.geteuid() == 0
    user = (
        next((name for name in users if name in ("postgres", "nobody")), None) if is_root else None
    )
    folder = Path(tempfile.mkdtemp(prefix="xlt-postgres-"))
    server: subprocess.Popen[bytes] | None = None
    before = os.environ.get("PGPASSWORD")
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            for path in (folder, secret):
                shutil.chown(path, user)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        subprocess.run(
            [programs / "initdb", "--pgdata", folder / "data", "--username", "xlt",
             "--auth", "scram-sha-256", "--pwfile", secret, "--no-sync"],
            check=True, user=user, **quiet,  # type: ignore[call-overload]
        )  # fmt: skip
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1",
             "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=500"],
            user=user, **quiet,  # type: ignore[call-overload]
        )  # fmt: skip
        os.environ["PGPASSWORD"] = PASSWORD
        ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
        while subprocess.run(ready, check=False, **quiet).returncode:  # type: ignore[call-overload]
            assert server.poll() is None, "PostgreSQL ended"
        yield f"postgresql+psycopg://xlt@127.0.0.1:{port}"
    finally:
        if server is not None:
            # At once, whoever is still connected.
            server.send_signal(signal.SIGINT)
            server.wait()
        if before is None:
            os.environ.pop("PGPASSWORD", None)
        else:
            os.environ["PGPASSWORD"] = before
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(postgres: str, request: pytest.FixtureRequest) -> str:
    """URL of an empty database of this test's own."""
    import psycopg

    name = f"t{abs(hash(request.node.nodeid))}"
    with psycopg.connect(f"{postgres.replace('+psycopg', '')}/postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return f"{postgres}/{name}"
