"""Storage errors become OSErrors, files survive a loss of power, and outages are waited for."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xlt_ray.errors import StoreError
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import PAUSES_S, Storage, patient
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.failures import cause_of


class EndpointConnectionError(Exception):
    """As botocore has it: no OSError."""


CALLS: dict[str, Callable[[Storage, Path], object]] = {
    "read": lambda storage, _: storage.read("a"),
    "write": lambda storage, _: storage.write("a", b""),
    "create": lambda storage, _: storage.create("a", b""),
    "version": lambda storage, _: storage.version("a"),
    "replace": lambda storage, _: storage.replace("a", "1", b""),
    "exists": lambda storage, _: storage.exists("a"),
    "names": lambda storage, _: storage.names("a"),
    "files": lambda storage, _: storage.files("a"),
    "move": lambda storage, _: storage.move("a", "b"),
    "remove": lambda storage, _: storage.remove("a"),
    "take": lambda storage, folder: storage.take(folder / "file", "a"),
    "fetch": lambda storage, folder: storage.fetch("a", ["b"], folder),
    "file_digest": lambda storage, _: storage.file_digest("a"),
    "is_exclusive": lambda storage, _: storage.is_exclusive(),
}


class Dead:
    """A file system of which every call fails."""

    protocol = "s3"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def invalidate_cache(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise self.error

        return fail


def dead(error: Exception) -> Storage:
    storage = Storage("memory://x")
    storage.fs = Dead(error)
    return storage


@pytest.mark.parametrize("name", CALLS)
def test_a_storage_that_cannot_be_reached_is_an_os_error(name: str, tmp_path: Path) -> None:
    error = EndpointConnectionError("Could not connect to the endpoint URL")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConnectionError, match="EndpointConnectionError: Could not") as caught:
        CALLS[name](dead(error), tmp_path)
    assert caught.value.__cause__ is error
    assert cause_of(caught.value) == "storage"


@pytest.mark.parametrize(
    "error", [PermissionError("no"), KeyError("ETag"), StoreError("x", key="")]
)
def test_other_errors_are_not_changed(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        dead(error).read("a")
    assert caught.value is error


def test_every_method_that_asks_the_storage_is_tried() -> None:
    asking = {
        name
        for name, method in vars(Storage).items()
        if callable(method)
        and not name.startswith("_")
        and name not in ("full", "local", "has_whole_header")
    }
    assert asking == set(CALLS)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is synced to disk, in order."""
    paths: list[Path] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        paths.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return paths


def test_every_file_and_folder_entry_of_a_committed_stage_is_synced(
    tmp_path: Path, synced: list[Path]
) -> None:
    """A folder that is not synced may lose the names in it with the power."""
    root = (tmp_path / "store").resolve()
    result = tmp_path / "result"
    (result / "encoder").mkdir(parents=True)
    for name in ("encoder/model.safetensors", "head.safetensors"):
        (result / name).write_bytes(b"x")
    store = StageStore(root)
    stage = Stage("target", {"epochs": 1}, {"train": "digest"}, 0, None, "target nli 10", 10)
    lease = store.lease(stage.key)
    assert isinstance(lease, Lease)
    with lease:
        record = StageRecord(
            stage.key, stage.payload, stage.label, files={}, runtime={}, num_examples=10
        )
        store.commit(stage, result, record, lease)
    folder = root / "stages" / stage.key
    entries = {folder / "encoder", folder, root / "stages", root, tmp_path.resolve()}
    assert entries <= set(synced), "a folder is made durable by syncing the one that it lies in"
    files = [result / "encoder/model.safetensors", result / "head.safetensors"]
    for file in (*files, folder / "record.json"):
        assert any(path == file or path.name.startswith(f".{file.name}.") for path in synced)


def test_a_result_from_another_file_system_appears_only_when_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    file, target = tmp_path / "file", tmp_path / "store" / "a" / "file"
    file.write_bytes(b"weights")
    rename = os.rename

    def refuse(source: Path, to: Path) -> None:
        if Path(source) == file:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, to)

    monkeypatch.setattr(os, "rename", refuse)
    Storage(tmp_path / "store").take(file, "a/file")
    assert target.read_bytes() == b"weights"
    assert not file.exists()
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert any(path.name.startswith(".file.") for path in synced)
    assert synced[-1] == target.parent.resolve()


# -- outages --------------------------------------------------------------------------------


class Outage:
    """A storage that fails ``times`` times, with the messages and pauses meanwhile."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.left = times
        self.error = error or ConnectionError("refused")
        self.messages: list[str] = []
        self.pauses: list[float] = []

    def exists(self, path: str) -> bool:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return path == "there"

    def ask(self, path: str) -> bool:
        return patient(self.exists, self.messages.append, pause=self.pauses.append)(path)


def test_a_call_that_succeeds_is_made_once_and_nothing_is_said() -> None:
    outage = Outage(0)
    assert outage.ask("there")
    assert not outage.ask("elsewhere")
    assert (outage.messages, outage.pauses) == ([], [])


def test_calls_are_repeated_with_growing_pauses_and_one_message() -> None:
    outage = Outage(4)
    assert outage.ask("there")
    assert outage.pauses == list(PAUSES_S[:4]) == sorted(outage.pauses)
    assert len(set(outage.pauses)) == 4
    (message,) = outage.messages
    assert "cannot be reached (refused)" in message


def test_an_outage_of_an_hour_is_an_error() -> None:
    outage = Outage(10**6)
    with pytest.raises(ConnectionError):
        outage.ask("there")
    assert 3600 <= sum(outage.pauses) <= 2 * 3600
    assert len(outage.messages) == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "full"), KeyError("x")]
)
def test_an_error_that_waiting_does_not_solve_is_raised_at_once(error: Exception) -> None:
    outage = Outage(1, error)
    with pytest.raises(type(error)):
        outage.ask("there")
    assert (outage.messages, outage.pauses) == ([], [])
