"""What a stage is made from: the deepest result that is there, and no file of any other is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError, StoreError
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import encoder_of
from xlt_ray.store.store import RECORD, StageStore
from xlt_ray.sweep.failures import cause_of
from xlt_ray.training import walk
from xlt_ray.training.events import Committed
from xlt_ray.training.load import TrainingContext, load_committed, load_network, load_parent
from xlt_ray.training.process_group import ProcessGroup
from xlt_ray.training.runtime import Runtime


def stage(kind: str, parent: Stage | None, **settings: Any) -> Stage:
    return Stage(kind, settings, {}, 0, parent, kind)  # type: ignore[arg-type]


MODEL = stage("model", None)
ALIGN = stage("align", MODEL)
TRUNK = stage("trunk", ALIGN, steps=1)
LONGER = stage("trunk", ALIGN, steps=2)
DECAY = stage("intermediate", LONGER)
TARGET = stage("target", DECAY, task={"name": "toy-nli"})
EVALUATE = stage("evaluate", TARGET)
PATH = (MODEL, ALIGN, TRUNK, LONGER, DECAY, TARGET, EVALUATE)


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    """With a result of every stage of the path, of no use to anybody."""
    store = StageStore(tmp_path / "home")
    for stage in PATH[1:]:
        folder = tmp_path / stage.key
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(b"weights")
        lease = store.lease(stage.key)
        assert isinstance(lease, Lease)
        with lease:
            store.commit(
                stage, folder, StageRecord(stage.key, stage.payload, stage.label, {}), lease
            )
    return store


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds of the stages that are made from now on, or would be."""
    kinds: list[str] = []

    def note(stage: Stage, *_: object) -> Iterator[Committed]:
        kinds.append(stage.kind)
        yield from ()

    monkeypatch.setattr(walk, "make", note)
    return kinds


def context(store: StageStore, rank: int = 0, size: int = 1) -> TrainingContext:
    model, runtime = Model(name="toy:1x32"), Runtime(cache=store.scratch)
    return TrainingContext(model, cast(Any, None), store, runtime, ProcessGroup(rank, size))


def found(store: StageStore) -> list[str]:
    events = walk.walk(PATH, context(store))
    return [event.stage.kind for event in events if isinstance(event, Committed)]


def free(store: StageStore, stage: Stage) -> None:
    """As garbage collection does: without its record it is no result."""
    store.storage.remove(f"stages/{stage.key}/{RECORD}")
    store.storage.remove(f"stages/{stage.key}")


def test_of_a_finished_path_no_file_is_read_but_those_of_its_end(
    store: StageStore, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = store.storage.file_digest
    monkeypatch.setattr(
        store.storage, "file_digest", lambda path: (read.append(path), real(path))[1]
    )
    assert found(store) == [stage.kind for stage in PATH[1:]]
    assert read == [f"stages/{EVALUATE.key}/weights.safetensors"]
    assert made == []


def test_what_is_used_is_looked_at_in_full(store: StageStore, made: list[str]) -> None:
    free(store, EVALUATE)
    store.storage.write(f"stages/{TARGET.key}/weights.safetensors", b"WEIGHTS")
    store.storage.write(f"stages/{ALIGN.key}/weights.safetensors", b"WEIGHTS")
    assert found(store) == ["align", "trunk", "trunk", "intermediate"]
    assert made == ["target", "evaluate"]
    assert TARGET not in store, "it is set aside"
    assert ALIGN in store, "nobody has read it"


def test_what_a_finished_stage_was_made_from_is_not_made_again(
    store: StageStore, made: list[str]
) -> None:
    for stage in (ALIGN, TRUNK, EVALUATE):
        free(store, stage)
    assert found(store) == ["trunk", "intermediate", "target"]
    assert made == ["evaluate"]


@pytest.mark.parametrize("harm", ["freed", "damaged"])
def test_the_encoder_below_a_trunk_is_made_again_where_a_stage_is_built_on_it(
    store: StageStore, made: list[str], harm: str
) -> None:
    """A trunk lends the state of its weights; the encoder itself is that of the stage before."""
    for freed in (DECAY, TARGET, EVALUATE):
        free(store, freed)
    if harm == "freed":
        free(store, ALIGN)
    else:
        store.storage.write(f"stages/{ALIGN.key}/weights.safetensors", b"WEIGHTS")
    assert found(store) == []
    assert made == [stage.kind for stage in PATH[1:]]


def test_every_stage_is_built_on_the_encoder_of_the_one_before_or_below_its_trunks() -> None:
    assert [encoder_of(stage) for stage in PATH[1:]] == [MODEL, ALIGN, ALIGN, ALIGN, DECAY, TARGET]


LOADS: dict[str, Callable[[StageStore], object]] = {
    "parent": lambda store: load_parent(TARGET, context(store)),
    "network": lambda store: load_network(DECAY, context(store)),
    "committed": lambda store: load_committed(DECAY, context(store)),
}


@pytest.mark.parametrize("name", LOADS)
def test_what_is_freed_while_it_is_loaded_is_waited_for_and_made_again(
    store: StageStore, name: str
) -> None:
    free(store, DECAY)
    with pytest.raises(StoreError, match="was freed while it was read") as caught:
        LOADS[name](store)
    assert cause_of(caught.value) == "storage"


@pytest.mark.parametrize("name", LOADS)
def test_what_is_there_and_is_no_model_is_a_fault_of_the_data(store: StageStore, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        LOADS[name](store)
    assert cause_of(caught.value) == "data"


def test_a_result_that_is_gone_from_a_bucket_is_waited_for_too(tmp_path: Path) -> None:
    store = StageStore(f"memory://{tmp_path.name}", scratch=tmp_path / "scratch")
    with pytest.raises(StoreError) as caught:
        load_committed(DECAY, context(store))
    assert cause_of(caught.value) == "storage"
    shutil.rmtree(store.scratch, ignore_errors=True)


def test_only_the_leader_makes_a_folder_for_a_result(store: StageStore) -> None:
    leader, other = (context(store, rank, size=2) for rank in (0, 1))
    assert walk._result_folder(TARGET, other) is None
    assert not (store.scratch / "results").exists()
    assert walk._result_folder(TARGET, leader) is not None
