"""Languages, facts and committed stages that a report is made from without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xlt_ray.config.facts import Facts, ModelFacts, SplitFacts, TaskFacts
from xlt_ray.store.evaluation_items import Items, write_items
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import Score, StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.store import StageStore

METRICS = ("accuracy", "macro_f1")


def facts_of(languages: Sequence[str]) -> Facts:
    """Two toy models, and two tasks of pairs in these languages."""

    def task(name: str, labels: tuple[str, ...]) -> TaskFacts:
        splits: Any = {
            (language, split): SplitFacts(8000 if split == "train" else 400, f"{name}{language}")
            for language in languages
            for split in ("train", "dev", "test")
        }
        return TaskFacts(name, "pair", 1, labels, METRICS, splits)

    models = {
        name: ModelFacts(name, int(name[4]), 64, 64, name) for name in ("toy:2x64", "toy:4x64")
    }
    tasks = (task("toy-nli", ("no", "maybe", "yes")), task("toy-paraphrase", ("no", "yes")))
    return Facts(
        models,
        {task.name: task for task in tasks},
        parallel={language: f"parallel {language}" for language in languages},
    )


def seconds_of(stage: Stage) -> float:
    return 1.0 + stage.num_examples / 1000


def commit(
    store: StageStore,
    stage: Stage,
    scores: tuple[Score, ...] = (),
    history: tuple[dict[str, Any], ...] = (),
    made_by: Mapping[str, Any] | None = None,
    items: Sequence[Items] = (),
    weights: int = 0,
) -> None:
    """Commit a made-up result of a stage, unless the store has one.

    Args:
        weights: bytes of its weights.
    """
    if stage in store:
        return
    folder = store.scratch / stage.key
    folder.mkdir(parents=True)
    (folder / "weights.txt").write_text(stage.key)
    if weights:
        (folder / "model.safetensors").write_bytes(b"w" * weights)
    if items:
        write_items(items, folder)
    lease = store.lease(stage.key)
    assert isinstance(lease, Lease)
    with lease:
        record = StageRecord(
            stage.key,
            stage.payload,
            stage.label,
            files={},
            scores=scores,
            history=history,
            num_examples=stage.num_examples,
            seconds=seconds_of(stage),
            runtime={"workers": 1, "zero_stage": 0, "device": "cpu"},
            made_by=made_by or {},
        )
        store.commit(stage, folder, record, lease)
