"""Few shots of a target language after the target stage: learned, resumed, read with access."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import Bench, stop
from xlt_ray.config.trial import TrialSpec
from xlt_ray.store.record import StageRecord, values_by_language
from xlt_ray.store.store import StageStore
from xlt_ray.training.events import Committed, Evaluated

PLAIN = (
    "intermediate=null",
    "target.task=toy-tagging",
    "target.size=500",
    "target.epochs=1",
    "target.fusion={method: none}",
    "target.hybrid={ratio: 0.0}",
    "evaluate={languages: [qab], examples: 100}",
)
SHOTS = (
    *PLAIN,
    "few_shot={language: qab, shots: 50, steps: 16, batch_size: 16, max_length: 32, "
    "learning_rate: 1e-3}",
)


class Watched:
    """A data source that notes which splits are read."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.reads: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, task: Any, language: str, split: str) -> Any:
        self.reads.append((language, split))
        return self._source.read(task, language, split)


@pytest.fixture(scope="module")
def zero_shot(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the target stage and its evaluation."""
    root = tmp_path_factory.mktemp("few-shot")
    bench.make(root, *PLAIN)
    return root


@pytest.fixture(scope="module")
def made(bench: Bench, zero_shot: Path) -> tuple[Path, list[tuple[str, str]], list[Any]]:
    """The store with the few-shot trial, what it has read, and its events."""
    watched: list[Watched] = []

    def open_data(trial: TrialSpec) -> Any:
        watched.append(Watched(bench.open_data(trial)))
        return watched[-1]

    events = replace(bench, open_data=open_data).make(zero_shot, *SHOTS)
    return zero_shot, watched[0].reads, events


def evaluation(bench: Bench, root: Path, *overrides: str) -> StageRecord:
    record = StageStore(root).record(bench.path(*overrides)[-1].key)
    assert record is not None
    return record


def test_shots_improve_on_zero_shot_transfer_from_the_same_target_stage(
    bench: Bench, made: tuple[Path, list[tuple[str, str]], list[Any]]
) -> None:
    root, _, events = made
    reused = [event.stage.kind for event in events if isinstance(event, Committed) and event.reused]
    assert reused == ["target"]
    before = values_by_language(evaluation(bench, root, *PLAIN).scores, "test", "accuracy")
    scores = evaluation(bench, root, *SHOTS).scores
    after = values_by_language(scores, "test", "accuracy", "few_shot")
    assert after.keys() == {"qaa", "qab"}
    assert after["qab"] > before["qab"] + 0.05
    assert {score.role for score in scores} == {"few_shot"}
    assert {score.task for score in scores} == {"toy-tagging-few-shot"}
    assert values_by_language(scores, "test", "accuracy") == {}


def test_the_training_starts_where_the_target_stage_ended_head_and_all(
    bench: Bench, made: tuple[Path, list[tuple[str, str]], list[Any]]
) -> None:
    root, _, _ = made
    store, path = StageStore(root), bench.path(*SHOTS)
    few_shot, target = store.record(path[-2].key), store.record(path[-3].key)
    assert few_shot is not None
    assert target is not None
    first = few_shot.history[0]["metrics"]
    # A fresh head would tag the source language by chance.
    assert first["accuracy"] > target.history[-1]["metrics"]["accuracy"] - 0.15
    assert few_shot.num_examples == path[-2].num_examples == 16 * 16


def test_of_the_language_the_shots_and_at_the_end_the_test_set_are_read(
    made: tuple[Path, list[tuple[str, str]], list[Any]],
) -> None:
    _, reads, _ = made
    test = reads.index(("qaa", "test"))
    assert set(reads[:test]) == {("qab", "dev"), ("qaa", "dev")}
    assert set(reads[test:]) == {("qaa", "test"), ("qab", "test")}


def test_an_interrupted_training_ends_in_the_same_bits(
    bench: Bench, made: tuple[Path, list[tuple[str, str]], list[Any]], tmp_path: Path
) -> None:
    import shutil

    root, _, _ = made
    path, store = bench.path(*SHOTS), StageStore(root)
    other = StageStore(tmp_path / "other")
    shutil.copytree(store.folder(path[-3].key), tmp_path / "other" / "stages" / path[-3].key)
    broken: Iterator[Any] = bench.walk(tmp_path / "other", *SHOTS)
    for event in broken:
        if isinstance(event, Evaluated) and event.stage.kind == "few_shot":
            break
    stop(broken)
    progress = other.find_progress(path[-2].key)
    assert progress is not None
    assert progress.step == 8
    bench.make(tmp_path / "other", *SHOTS)
    assert bench.bits(tmp_path / "other", *SHOTS) == bench.bits(root, *SHOTS)
    whole, resumed = (evaluation(bench, folder, *SHOTS) for folder in (root, tmp_path / "other"))
    assert whole.scores == resumed.scores
