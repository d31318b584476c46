"""Copies on a node: fetched once, complete, and within their share of the disk."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from xlt_ray.store.copies import DEAD_S, KEEP_S, READ_S, SHARE, Copies

Fetch = Callable[[Path], None]
Usage = namedtuple("Usage", "total used free")


def writing(num_bytes: int = 10) -> Fetch:
    def fetch(folder: Path) -> None:
        (folder / "encoder").mkdir(parents=True)
        (folder / "encoder" / "weights").write_bytes(b"w" * num_bytes)

    return fetch


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "scratch" / "fetched")


def names(copies: Copies) -> set[str]:
    return {file.name for file in copies.folder.iterdir()}


def let_pass(copy: Path, seconds: float) -> None:
    """As if a copy had been made, and asked for, so long ago."""
    then = time.time() - seconds
    for path in (*copy.rglob("*"), copy):
        os.utime(path, (then, then))


def disk_of(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(num_bytes, 0, num_bytes))


def test_a_copy_is_fetched_once(copies: Copies) -> None:
    first = copies.get("a", writing())
    assert (first / "encoder" / "weights").read_bytes() == b"w" * 10
    assert copies.get("a", lambda _: pytest.fail("it is there")) == first


def test_a_fetch_that_fails_leaves_nothing(copies: Copies) -> None:
    def failing(folder: Path) -> None:
        writing()(folder)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        copies.get("a", failing)
    assert names(copies) == set()
    assert copies.get("a", writing()).exists()


def test_a_copy_that_was_not_used_lately_is_deleted_when_another_arrives(copies: Copies) -> None:
    for name in ("old", "asked for", "young"):
        copies.get(name, writing())
    for name in ("old", "asked for"):
        let_pass(copies.folder / name, KEEP_S + 60)
    copies.get("asked for", writing())
    copies.get("new", writing())
    assert names(copies) == {"asked for", "young", "new"}


def test_leftovers_of_a_killed_process_are_deleted(copies: Copies) -> None:
    copies.get("a", writing())
    for name in ("b.0123abcd", "freed-0123abcd"):
        writing()(copies.folder / name)
        let_pass(copies.folder / name, KEEP_S + 60)
    copies.get("c", writing())
    assert names(copies) == {"a", "c"}


def test_a_long_fetch_is_kept_while_it_makes_progress(copies: Copies) -> None:
    copies.folder.mkdir(parents=True)
    writing()(copies.folder / "b.0123abcd")
    let_pass(copies.folder / "b.0123abcd", KEEP_S + 60)
    (copies.folder / "b.0123abcd" / "encoder" / "weights").write_bytes(b"still coming")
    copies.get("a", writing())
    assert names(copies) == {"a", "b.0123abcd"}


def test_copies_keep_to_their_share_of_the_disk_and_the_oldest_is_deleted_first(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_of(monkeypatch, int(250 / SHARE))
    for age, name in enumerate(("youngest", "middle", "oldest")):
        let_pass(copies.get(name, writing(100)), READ_S + 60 * (age + 1))
    copies.get("new", writing(100))
    assert names(copies) == {"youngest", "new"}


def test_a_copy_that_may_be_in_use_stays_even_on_a_full_disk(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_of(monkeypatch, 1)
    let_pass(copies.get("read", writing(100)), READ_S - 60)
    copies.get("new", writing(100))
    assert names(copies) == {"read", "new"}


def test_working_folders_of_dead_processes_are_deleted_after_a_day(tmp_path: Path) -> None:
    results, progress = tmp_path / "results", tmp_path / "progress"
    copies = Copies(tmp_path / "fetched", [results, progress])
    for place in (results / "dead", results / "alive"):
        writing()(place)
    let_pass(results / "dead", DEAD_S + 60)
    let_pass(results / "alive", DEAD_S - 60)
    copies.get("a", writing())
    assert [file.name for file in results.iterdir()] == ["alive"]
    assert names(copies) == {"a"}


def test_two_simultaneous_fetches_of_a_copy_both_succeed(copies: Copies) -> None:
    start, paths = threading.Barrier(2), []

    def fetch(folder: Path) -> None:
        start.wait(10)
        writing()(folder)

    threads = [
        threading.Thread(target=lambda: paths.append(copies.get("a", fetch))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [copies.folder / "a"] * 2
    assert names(copies) == {"a"}


def _ask_and_read(folder: Path, rounds: int) -> None:
    copies = Copies(folder)
    for turn in range(rounds):
        copy = copies.get(f"{turn % 3}", writing(100))
        assert (copy / "encoder" / "weights").read_bytes() == b"w" * 100


def test_processes_of_one_node_never_lose_what_they_read(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though every arrival finds the disk full, and copies of before too old."""
    disk_of(monkeypatch, 1)
    for name in "012":
        let_pass(copies.get(name, writing(100)), READ_S + 60)
    fork = multiprocessing.get_context("fork")
    readers = [fork.Process(target=_ask_and_read, args=(copies.folder, 30)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(30):
        copies.get(f"other-{turn}", writing(100))
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0, 0, 0]
