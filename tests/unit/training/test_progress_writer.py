"""Progress is written by a thread: one write at a time, its errors raised in the training."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.contracts.test_store_contract import STAGE, leased, take_over
from xlt_ray.config.progress_settings import ProgressSettings
from xlt_ray.errors import LeaseLost
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import FileEntry
from xlt_ray.store.storage import file_digest
from xlt_ray.store.store import StageStore
from xlt_ray.training.final_weights import Average
from xlt_ray.training.progress_writer import ProgressWriter, write_tensors
from xlt_ray.training.runtime import Runtime

SNAPSHOT = {"weights.safetensors": {"weight": torch.arange(6.0).reshape(2, 3)}}
ALWAYS = ProgressSettings(every=1e-9)


class HeldStore(StageStore):
    """Publishes progress when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.may_publish = threading.Event()

    def publish_progress(self, *arguments: Any) -> None:
        assert self.may_publish.wait(60)
        super().publish_progress(*arguments)


@pytest.fixture
def store(tmp_path: Path) -> HeldStore:
    return HeldStore(tmp_path)


@pytest.fixture
def lease(store: HeldStore) -> Iterator[Lease]:
    with leased(store) as lease:
        yield lease


def writer_of(
    store: StageStore, lease: Lease, settings: ProgressSettings = ALWAYS, num_weights: int = 6
) -> ProgressWriter:
    runtime = Runtime(Path("cache"), progress=settings)
    return ProgressWriter(store, STAGE.key, lease, runtime, num_weights)


def test_tensors_are_written_as_safetensors_with_their_digest(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(3, 5),
        "scalar": torch.tensor(0.5),
        "empty": torch.zeros(0, 4),
        "größe": torch.randn(7),
    }
    file = tmp_path / "tensors.safetensors"
    entry = write_tensors(file, tensors)
    assert entry == FileEntry(*file_digest(file))
    read = load_file(file)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name], tensor)


def test_a_save_that_is_due_during_a_write_is_left_out(store: HeldStore, lease: Lease) -> None:
    writer = writer_of(store, lease)
    assert writer.is_due()
    writer.write(5, SNAPSHOT, {"step": 5}, copy_s=0.0)
    assert not writer.is_due(), "the training goes on meanwhile"
    assert store.find_progress(STAGE.key) is None
    store.may_publish.set()
    writer.wait()
    assert writer.is_due()
    progress = store.find_progress(STAGE.key)
    assert progress is not None
    assert (progress.step, progress.state) == (5, {"step": 5})
    folder = store.fetch_progress(progress, "test")
    weights = load_file(folder / "weights.safetensors")["weight"]
    assert torch.equal(weights, SNAPSHOT["weights.safetensors"]["weight"])
    writer.close()


def test_a_write_before_a_stop_follows_the_one_under_way(store: HeldStore, lease: Lease) -> None:
    writer = writer_of(store, lease)
    writer.write(5, SNAPSHOT, {}, copy_s=0.0)
    threading.Timer(0.1, store.may_publish.set).start()
    writer.write(6, SNAPSHOT, {}, copy_s=0.0)
    writer.wait()
    assert store.storage.names(f"progress/{STAGE.key}") == ["6"]
    writer.close()


def test_what_a_write_raises_is_raised_once_in_the_training(store: HeldStore, lease: Lease) -> None:
    writer = writer_of(store, lease)
    writer.write(5, SNAPSHOT, {}, copy_s=0.0)
    take_over(store)
    store.may_publish.set()

    def train() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            writer.is_due()
            time.sleep(0.01)

    with pytest.raises(LeaseLost):
        train()
    writer.wait()
    assert store.find_progress(STAGE.key) is None
    writer.close()


def test_a_full_disk_is_an_error_of_the_training(
    store: HeldStore, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.storage, "take", full)
    writer = writer_of(store, lease)
    writer.write(5, SNAPSHOT, {}, copy_s=0.0)
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    writer.close()


def test_the_interval_follows_from_what_the_last_save_took(
    store: HeldStore, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    # Assumed to take a second, which is a hundredth of 100 s.
    writer = writer_of(store, lease, ProgressSettings(), num_weights=40_000_000)
    now += 99
    assert not writer.is_due()
    now += 1.5
    assert writer.is_due()
    store.may_publish.set()
    writer.write(5, SNAPSHOT, {}, copy_s=3.0)
    writer.wait()
    now += 299
    assert not writer.is_due()
    now += 300
    assert writer.is_due()
    writer.close()


class Engine:
    """Has the weights that a test gives it."""

    def __init__(self, value: float) -> None:
        self.value = value

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield "weight", torch.tensor([self.value])


def test_an_average_that_goes_on_leaves_its_snapshot_as_it_was() -> None:
    average = Average(frozenset({1, 2, 3}), is_keeper=True)
    average.after_step(Engine(1.0), 1, ())  # type: ignore[arg-type]
    first = average.snapshot()
    average.after_step(Engine(2.0), 2, ())  # type: ignore[arg-type]
    second = average.snapshot()
    average.after_step(Engine(4.0), 3, ())  # type: ignore[arg-type]
    sums = [kept["average.safetensors"]["weight"].item()
            for kept in (first, second, average.snapshot())]  # fmt: skip
    assert sums == [1.0, 3.0, 7.0]
