"""A real S3 server on this machine's loopback, for everything that a store promises on a bucket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key-of-no-account",
    "AWS_SECRET_ACCESS_KEY": "secret-of-no-account",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """URL of an empty bucket; the environment names the server until the tests are over."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    before = dict(os.environ)
    os.environ.update({**ENVIRONMENT, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"})
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        os.environ.pop(name, None)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            assert server.poll() is None, "the S3 server ended"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        import s3fs

        s3fs.S3FileSystem().mkdir("tests")
        yield "s3://tests"
    finally:
        server.terminate()
        server.wait()
        os.environ.clear()
        os.environ.update(before)
