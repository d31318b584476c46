"""Alone, shared, interrupted: the same trial ends in the same bits."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.rounding import assert_trained_alike
from tests.training.conftest import Bench, stop
from xlt_ray.config.progress_settings import ProgressSettings
from xlt_ray.errors import TrialFailure
from xlt_ray.store.store import StageStore
from xlt_ray.training import loop
from xlt_ray.training.events import Committed, Evaluated, Stop, Ticked


def test_same_trial_made_twice_gives_the_same_bits(
    bench: Bench, tmp_path: Path, alone: Path
) -> None:
    bench.make(tmp_path)
    assert bench.bits(tmp_path) == bench.bits(alone)


def test_trial_through_shared_stages_equals_the_trial_alone(
    bench: Bench, tmp_path: Path, alone: Path
) -> None:
    # Another trial has made the intermediate stage before.
    bench.make(tmp_path / "shared", "target.learning_rate=5e-4")
    events = bench.make(tmp_path / "shared")
    reused = {event.stage.kind: event.reused for event in events if isinstance(event, Committed)}
    assert reused == {"intermediate": True, "target": False, "evaluate": False}
    assert bench.bits(tmp_path / "shared") == bench.bits(alone)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_interrupted_training_goes_on_to_the_same_bits(
    bench: Bench, tmp_path: Path, zero_stage: int
) -> None:
    bench.make(tmp_path / "whole", zero_stage=zero_stage)
    broken = bench.walk(tmp_path / "broken", zero_stage=zero_stage)
    for event in broken:
        if isinstance(event, Evaluated) and event.stage.kind == "target":
            break
    stop(broken)
    key = bench.path()[-2].key
    store = StageStore(tmp_path / "broken")
    progress = store.find_progress(key)
    assert progress is not None
    assert progress.step == 4, "half of 8 steps"
    assert store.record(key) is None
    resumed = bench.make(tmp_path / "broken", zero_stage=zero_stage)
    scored = [
        (event.step, event.is_replay)
        for event in resumed
        if isinstance(event, Evaluated) and event.stage.kind == "target"
    ]
    assert scored == [(4, True), (8, False)]
    assert bench.bits(tmp_path / "broken") == bench.bits(tmp_path / "whole")
    assert store.find_progress(key) is None, "progress is dropped with the commit"


def test_an_interrupted_training_by_pieces_goes_on_to_the_same_bits(
    bench: Bench, tmp_path: Path, alone: Path
) -> None:
    pieces = ("intermediate.batching=pieces", "target.batching=pieces")
    bench.make(tmp_path / "whole", *pieces)
    broken = bench.walk(tmp_path / "broken", *pieces)
    next(event for event in broken if isinstance(event, Evaluated) and event.stage.kind == "target")
    stop(broken)
    bench.make(tmp_path / "broken", *pieces)
    bits = bench.bits(tmp_path / "whole", *pieces)
    assert bench.bits(tmp_path / "broken", *pieces) == bits != bench.bits(alone)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_stopped_training_repeats_no_step(
    bench: Bench, tmp_path: Path, alone: Path, zero_stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "TICK_S", 0.0)
    stopped = bench.walk(tmp_path, zero_stage=zero_stage)
    ticks = (
        event for event in stopped if isinstance(event, Ticked) and event.stage.kind == "target"
    )
    assert [next(ticks).examples for _ in range(3)] == [16, 32, 48]
    with pytest.raises(Stop):
        stopped.throw(Stop())  # type: ignore[attr-defined]
    store, key = StageStore(tmp_path), bench.path()[-2].key
    progress = store.find_progress(key)
    assert progress is not None
    assert progress.step == 3
    assert store.record(key) is None
    assert store.storage.names("leases") == [], "its lease was given back"
    monkeypatch.undo()
    bench.make(tmp_path, zero_stage=zero_stage)
    if zero_stage == 0:
        assert bench.bits(tmp_path) == bench.bits(alone)


@pytest.mark.parametrize("zero_stage", [0, pytest.param(3, marks=pytest.mark.long)])
def test_killed_training_continues_from_what_was_written_beside_it(
    bench: Bench, tmp_path: Path, alone: Path, zero_stage: int
) -> None:
    killed = bench.walk(tmp_path, zero_stage=zero_stage, progress=ProgressSettings(every=1e-6))
    next(event for event in killed
         if isinstance(event, Evaluated) and event.stage.kind == "target")  # fmt: skip
    killed.close()  # type: ignore[attr-defined]
    progress = StageStore(tmp_path).find_progress(bench.path()[-2].key)
    assert progress is not None
    assert 1 <= progress.step <= 4
    bench.make(tmp_path, zero_stage=zero_stage)
    if zero_stage == 0:
        assert bench.bits(tmp_path) == bench.bits(alone)


@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 2), (2, 0), (1, 3)])
def test_progress_of_one_zero_stage_is_continued_under_another(
    bench: Bench, tmp_path: Path, alone: Path, before: int, after: int
) -> None:
    broken = bench.walk(tmp_path, zero_stage=before)
    next(event for event in broken if isinstance(event, Evaluated) and event.stage.kind == "target")
    stop(broken)
    resumed = bench.make(tmp_path, zero_stage=after)
    assert any(event.is_replay for event in resumed if isinstance(event, Evaluated))
    key = bench.path()[-2].key
    first, second = (
        load_file(root / "stages" / key / "model.safetensors") for root in (alone, tmp_path)
    )
    assert_trained_alike(first, second, atol=1e-4)


def test_progress_of_bf16_keeps_float32_weights(bench: Bench, tmp_path: Path) -> None:
    bf16 = "resources={precision: bf16, zero_stage: 1}"
    bench.make(tmp_path / "whole", bf16, zero_stage=1)
    broken = bench.walk(tmp_path / "broken", bf16, zero_stage=1)
    next(event for event in broken if isinstance(event, Evaluated) and event.stage.kind == "target")
    stop(broken)
    bench.make(tmp_path / "broken", bf16, zero_stage=1)
    assert bench.bits(tmp_path / "broken", bf16) == bench.bits(tmp_path / "whole", bf16)


def test_damaged_progress_is_set_aside_and_training_begins_anew(
    bench: Bench, tmp_path: Path, alone: Path
) -> None:
    broken = bench.walk(tmp_path / "broken")
    next(event for event in broken if isinstance(event, Evaluated) and event.stage.kind == "target")
    stop(broken)
    key = bench.path()[-2].key
    file = max((tmp_path / "broken" / "progress" / key).rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    resumed = bench.make(tmp_path / "broken")
    assert not any(event.is_replay for event in resumed
                   if isinstance(event, Evaluated) and event.stage.kind == "target")  # fmt: skip
    assert list((tmp_path / "broken" / "damaged").iterdir())
    assert bench.bits(tmp_path / "broken") == bench.bits(alone)


def test_damaged_stage_is_set_aside_and_made_again(bench: Bench, tmp_path: Path) -> None:
    bench.make(tmp_path)
    before = bench.bits(tmp_path)
    path = bench.path()
    store = StageStore(tmp_path)
    for stage in path[-2:]:
        weights = tmp_path / "stages" / stage.key
        file = next(iter(sorted(weights.glob("*.safetensors"))), weights / "record.json")
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    events = bench.make(tmp_path)
    remade = {
        event.stage.kind for event in events if isinstance(event, Committed) and not event.reused
    }
    assert remade == {"target", "evaluate"}
    assert bench.bits(tmp_path) == before
    assert len(list((tmp_path / "damaged").iterdir())) == 2
    assert store.verify(path[-2].key) is not None


def test_finished_path_is_reused_whole_with_its_scores(bench: Bench, tmp_path: Path) -> None:
    first = bench.make(tmp_path)
    again = bench.make(tmp_path)
    assert all(event.reused for event in again if isinstance(event, Committed))
    assert all(event.is_replay for event in again if isinstance(event, Evaluated))
    scores = [
        event.record.scores for event in (first[-1], again[-1]) if isinstance(event, Committed)
    ]
    assert scores[0] == scores[1]
    assert {(score.language, score.split) for score in scores[0]} == {
        ("qaa", "dev"),
        ("qaa", "test"),
        ("qab", "test"),
    }


NUMERIC = [
    {"zero_stage": 1},
    {"zero_stage": 2},
    {"zero_stage": 3},
    {"micro_batch": 4},
    {"micro_batch": 4, "zero_stage": 2},
    {"threads": 2},
]


@pytest.mark.parametrize("change", NUMERIC, ids=str)
def test_numeric_runtime_moves_weights_by_rounding_alone(
    bench: Bench, tmp_path: Path, alone: Path, change: dict[str, int]
) -> None:
    bench.make(tmp_path, **change)
    key = bench.path()[-2].key
    first, second = (
        load_file(root / "stages" / key / "model.safetensors") for root in (alone, tmp_path)
    )
    assert_trained_alike(first, second, atol=1e-4)
    record = StageStore(tmp_path).record(key)
    assert record is not None
    assert {name: record.runtime[name] for name in change} == change
    assert record.made_by["versions"]["torch"] == version("torch")


@pytest.mark.parametrize(
    "change",
    [{"progress": ProgressSettings(every=1e-6)}, {"evaluation_batch": 3}, {"evaluations": 5}],
    ids=str,
)
def test_neutral_runtime_leaves_every_bit(
    bench: Bench, tmp_path: Path, alone: Path, change: dict[str, Any]
) -> None:
    bench.make(tmp_path, **change)
    assert bench.bits(tmp_path) == bench.bits(alone)


SETTINGS = [
    "target.learning_rate=9e-4",
    "target.batch_size=8",
    "target.max_length=10",
    "target.weight_decay=0.5",
    "target.warmup=0.5",
    "target.clip=0.01",
    "target.size=60",
    "target.epochs=3",
    "target.fusion.layer=0",
    "target.fusion={method: none}",
    "target.fusion={method: mix}",
    "target.hybrid.ratio=0.25",
    "target.hybrid={ratio: 0.5, languages: [qab]}",
    "target.hybrid={mono: uniform}",
    "intermediate=null",
    "intermediate.learning_rate=9e-4",
    "align={objective: code_switch_mlm, steps: 2, max_length: 32, learning_rate: 1e-3}",
    "align={objective: tlm, steps: 2, max_length: 64, learning_rate: 1e-3}",
]


LAST = "target.select=last"
"""Two trainings may differ in their last steps alone, and both be at their best before."""


@pytest.fixture(scope="module")
def at_the_end(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("last")
    bench.make(root, LAST)
    return root


@pytest.mark.parametrize("override", SETTINGS)
def test_every_setting_changes_key_and_weights(
    bench: Bench, tmp_path: Path, at_the_end: Path, override: str
) -> None:
    bench.make(tmp_path, LAST, override)
    assert bench.path(LAST)[-2].key != bench.path(LAST, override)[-2].key
    assert bench.bits(tmp_path, LAST, override) != bench.bits(at_the_end, LAST)


def test_seed_of_a_repeat_changes_target_and_keeps_shared_intermediate(
    bench: Bench, tmp_path: Path
) -> None:
    bench.make(tmp_path, seed=0)
    events = bench.make(tmp_path, seed=1)
    reused = {event.stage.kind: event.reused for event in events if isinstance(event, Committed)}
    assert reused == {"intermediate": True, "target": False, "evaluate": False}
    assert bench.bits(tmp_path, seed=0) != bench.bits(tmp_path, seed=1)


def test_loss_that_is_not_a_number_ends_the_trial_with_its_cause(
    bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(TrialFailure) as failure:
        bench.make(tmp_path, "target.learning_rate=1e30", "target.clip=0", "target.warmup=0")
    assert failure.value.fields["cause"] == "nan"
    store = StageStore(tmp_path)
    assert store.record(bench.path()[1].key) is not None, "the intermediate stage is kept"


def test_finished_encoder_is_a_hugging_face_folder(bench: Bench, alone: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = StageStore(alone).folder(bench.path()[-2].key)
    encoder = AutoModel.from_pretrained(folder)
    assert encoder.config.num_hidden_layers == 2
    assert len(AutoTokenizer.from_pretrained(folder)) == encoder.config.vocab_size
