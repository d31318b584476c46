"""When a sweep is ended because Ray has died. No Ray runs."""

from __future__ import annotations

import itertools
import os
import socket
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import ray

from xlt_ray.sweep import ray_connection
from xlt_ray.sweep.ray_connection import is_listening


class Ended(Exception):
    """The process would have ended, with this code."""


def end(code: int) -> NoReturn:
    raise Ended(code)


@pytest.mark.parametrize(
    ("address", "may_miss"), [("10.0.0.3:6379", 4), (None, 1)], ids=["a cluster's", "its own"]
)
def test_a_server_that_stays_away_ends_the_sweep_and_one_that_comes_back_does_not(
    monkeypatch: pytest.MonkeyPatch, address: str | None, may_miss: int
) -> None:
    looks = [True, *[False] * may_miss, True, *[False] * 100]
    left = iter(looks)
    told: list[str] = []
    scheduler: Any = SimpleNamespace(reporter=SimpleNamespace(warned=told.append))
    is_over: Any = SimpleNamespace(wait=lambda _: False)
    clock = itertools.count(step=10)
    if address is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    context = SimpleNamespace(gcs_address="10.0.0.3:6379")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray_connection, "is_listening", lambda _: next(left))
    monkeypatch.setattr(
        ray_connection, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None)
    )
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended, match="1"):
        ray_connection._watch_server(scheduler, is_over)
    assert len([*left]) == 100 - (may_miss + 1)
    (line,) = told
    assert "10.0.0.3:6379" in line
    assert line.endswith("the same command goes on")


def test_a_port_is_asked_whether_something_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert is_listening(address)
    assert not is_listening(address)
