"""Leases: one holder at a time, and no waiting for dead holders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

import xlt_ray.store.lease as lease_room
from tests.threads import at_once
from xlt_ray.errors import LeaseLost
from xlt_ray.store.lease import Holder, Lease, find_holder, try_acquire, waiting_for
from xlt_ray.store.storage import Storage

PATH = "leases/x.json"
HOLD = """
import sys, time
from xlt_ray.store.lease import try_acquire
from xlt_ray.store.storage import Storage
lease = try_acquire(Storage(sys.argv[1]), "leases/x.json", purpose="to be killed")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["folder", "memory", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield Storage(tmp_path)
        return
    root = "memory:/" if request.param == "memory" else request.getfixturevalue("bucket")
    storage = Storage(f"{root}/{tmp_path.name}")
    yield storage
    storage.remove("")


def acquired(storage: Storage, **settings: float) -> Lease:
    lease = try_acquire(storage, PATH, **settings)  # type: ignore[arg-type]
    assert isinstance(lease, Lease)
    return lease


def put(storage: Storage, holder: Holder) -> None:
    storage.write(PATH, json.dumps(asdict(holder)).encode())


def renewed_after(storage: Storage, moment: float) -> Holder:
    """The holder, once its lease expires after ``moment``."""
    for _ in range(1000):
        holder = find_holder(storage, PATH)
        if holder is not None and holder.expires > moment:
            return holder
        time.sleep(0.01)
    raise AssertionError("the lease was not renewed in 10 s")


def foreign(expires: float) -> Holder:
    return Holder("another/boot/pid", 1, 0.0, "foreign token", expires, "sweep s, trial 3")


def test_a_second_contender_learns_who_holds_it(storage: Storage) -> None:
    with acquired(storage):
        holder = try_acquire(storage, PATH, purpose="mine")
        assert isinstance(holder, Holder)
        assert holder.pid == os.getpid()
        assert str(os.getpid()) in str(holder)


def test_release_and_leaving_the_block_by_an_error_give_it_back(storage: Storage) -> None:
    lease = acquired(storage)
    lease.release()
    lease.release()
    assert find_holder(storage, PATH) is None
    with pytest.raises(ZeroDivisionError), acquired(storage):
        _ = 1 / 0
    assert find_holder(storage, PATH) is None


@pytest.mark.parametrize("storage", ["folder", "bucket"], indirect=True)
@pytest.mark.parametrize("is_dead", [False, True])
def test_contenders_at_one_moment_have_one_winner(storage: Storage, is_dead: bool) -> None:
    def is_sound(lease: Lease) -> bool:
        try:
            lease.check()
        except LeaseLost:
            return False
        return True

    for _ in range(5):
        if is_dead:
            put(storage, foreign(time.time() - 1))
        results = at_once(*[lambda: try_acquire(storage, PATH)] * 5)
        leases = [result for result in results if isinstance(result, Lease)]
        assert sum(map(is_sound, leases)) == 1
        if storage.local_root is None or not is_dead:
            assert len(leases) == 1
        assert all(isinstance(result, Lease | Holder) for result in results)
        for lease in leases:
            lease.release()
        assert storage.names("leases") == []


def test_a_killed_holder_is_taken_over_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        storage = Storage(tmp_path)
        holder = try_acquire(storage, PATH)
        assert isinstance(holder, Holder)
        assert "to be killed" in str(holder)
        # Not reaped yet: a zombie holds nothing either.
        process.send_signal(signal.SIGKILL)
        began = time.monotonic()
        while isinstance(lease := try_acquire(storage, PATH), Holder):
            assert time.monotonic() - began < 5
        lease.release()
    finally:
        process.kill()
        process.wait()


def test_a_living_holder_elsewhere_is_respected(storage: Storage) -> None:
    put(storage, foreign(time.time() + 60))
    assert try_acquire(storage, PATH) == foreign(find_holder(storage, PATH).expires)  # type: ignore[union-attr]


def test_a_silent_holder_elsewhere_is_taken_over_when_it_expires(storage: Storage) -> None:
    put(storage, foreign(time.time() - 0.01))
    with acquired(storage) as lease:
        lease.check()


def test_a_reused_process_number_does_not_hold_the_lease(storage: Storage) -> None:
    with acquired(storage):
        holder = find_holder(storage, PATH)
    assert holder is not None
    put(storage, replace(holder, started=holder.started - 1000, expires=time.time() + 60))
    acquired(storage).release()


def test_setting_the_clock_does_not_make_a_holder_dead(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time at which a process began is read from the clock, and moves with it."""
    real = psutil.Process.create_time
    with acquired(storage):
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
        assert isinstance(try_acquire(storage, PATH), Holder)


def test_without_start_times_living_holders_keep_their_lease_and_dead_ones_lose_it(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_room, "_PROC", tmp_path / "no such folder")
    with acquired(storage) as lease:
        holder = try_acquire(storage, PATH)
        assert isinstance(holder, Holder)
        lease.check()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    put(storage, replace(holder, pid=process.pid, expires=time.time() + 60))
    acquired(storage).release()


def test_a_holder_whose_answer_was_lost_has_the_lease(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is sent again, and the second one finds the file of the first."""
    real = storage.create
    monkeypatch.setattr(storage, "create", lambda *asked: real(*asked) and False)
    with acquired(storage) as lease:
        lease.check()


def test_a_process_that_stalled_past_the_expiry_checks_its_lease(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with acquired(storage, ttl=3600) as lease:
        with monkeypatch.context() as away:
            away.setattr(storage, "read", lambda _: pytest.fail("nobody can have taken it yet"))
            lease.confirm()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 7200)
        lease.confirm()
        put(storage, foreign(now + 9000))
        with pytest.raises(LeaseLost):
            lease.confirm()


@pytest.mark.parametrize("content", [b"", b'{"machine": "x"', b"[]", b"null", b"\xff", b"{}"])
def test_a_corrupt_lease_can_be_taken_over(storage: Storage, content: bytes) -> None:
    storage.write(PATH, content)
    with acquired(storage) as lease:
        lease.check()


@pytest.mark.parametrize("has_new_holder", [True, False])
def test_a_lost_lease_is_noticed_and_not_taken_from_its_new_holder(
    storage: Storage, has_new_holder: bool
) -> None:
    lease = acquired(storage)
    if has_new_holder:
        put(storage, foreign(time.time() + 60))
    else:
        storage.remove(PATH)
    with pytest.raises(LeaseLost, match="passed to another process"):
        lease.check()
    lease.release()
    assert (find_holder(storage, PATH) is not None) == has_new_holder


def test_renewal_keeps_a_lease_beyond_its_expiry(storage: Storage) -> None:
    with acquired(storage, ttl=0.4):
        first = find_holder(storage, PATH)
        assert first is not None
        later = renewed_after(storage, first.expires + 0.4)
        assert later.token == first.token


class EndpointConnectionError(Exception):
    """As botocore has it: no OSError."""


@pytest.mark.parametrize("error", [OSError, EndpointConnectionError])
def test_renewal_survives_a_short_outage(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    with acquired(storage, ttl=0.4) as lease:
        failed = threading.Event()

        def unreadable(_: str) -> bytes:
            failed.set()
            raise error("the network is gone")

        monkeypatch.setattr(storage, "read", unreadable)
        assert failed.wait(5)
        monkeypatch.undo()
        renewed_after(storage, time.time() + 0.4)
        lease.check()


def test_a_lost_lease_is_not_renewed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, real = threading.Semaphore(0), storage.read

    def read(path: str) -> bytes:
        content = real(path)
        if threading.current_thread().name == f"lease {PATH}" and b"foreign token" in content:
            looked.release()
        return content

    monkeypatch.setattr(storage, "read", read)
    lease = acquired(storage, ttl=0.2)
    for _ in range(10):
        # A beat that had just seen its own token may still write it over the new one.
        put(storage, foreign(time.time() + 60))
        if looked.acquire(timeout=1):
            break
    else:
        pytest.fail("the thread that renews the lease does not look at it")
    time.sleep(0.2)
    assert not looked.acquire(blocking=False), "it looks no more"
    holder = find_holder(storage, PATH)
    assert holder is not None
    assert holder.token == "foreign token"
    lease.release()


def test_waiting_ends_when_the_holder_leaves(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first = acquired(storage)
    entered = threading.Event()

    def wait() -> None:
        with waiting_for(storage, PATH, poll=0.01) as lease:
            lease.check()
            entered.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not entered.wait(0.1)
    first.release()
    thread.join(5)
    assert entered.is_set()
