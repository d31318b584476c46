"""A tiny trial on toy data, made in this process, and the fingerprint of what it leaves."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from xlt_ray.config.facts import Facts
from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.trial import TrialSpec
from xlt_ray.config.yaml import parse_document
from xlt_ray.store.record import StageRecord
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.training.events import Evaluated, Event, Stop
from xlt_ray.training.load import TrainingContext
from xlt_ray.training.process_group import ProcessGroup, join_process_group
from xlt_ray.training.runtime import Runtime
from xlt_ray.training.walk import walk

TINY = """
name: tiny
data: {source: toy}
model: toy:2x32
intermediate:
  task: toy-nli
  size: 48
  batch_size: 16
  max_length: 32
  learning_rate: 1e-3
target:
  task: toy-paraphrase
  source_language: qaa
  size: 64
  epochs: 2
  evaluations: 2
  batch_size: 16
  max_length: 32
  learning_rate: 1e-3
  fusion: {method: dlfa, layer: 1}
  hybrid: {ratio: 0.5}
evaluate: {languages: [qab], examples: 20}
search: {trials: 1}
"""


def what_was_scored(record: StageRecord) -> list[dict[str, Any]]:
    """The history of a training, without what depends on the machine and the clock."""
    return [
        {name: value for name, value in entry.items() if name not in ("system", "time_ms")}
        for entry in record.history
    ]


def stop(events: Iterator[Event]) -> None:
    """End a walk as a stopped sweep does, with progress of this very step."""
    with contextlib.suppress(Stop):
        events.throw(Stop())  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Bench:
    """Makes trials in one store after another, with one set of facts."""

    facts: Facts
    cache: Path
    group: ProcessGroup
    open_data: Callable[[TrialSpec], Any]

    def trial(self, *overrides: str) -> TrialSpec:
        sweep = sweep_of(parse_document(TINY, "tiny.yaml", overrides))
        tree, _ = draw(
            sweep.space,
            lambda parameter: extremes(parameter.distribution)[0],
            self.facts.model_bounds,
        )
        return sweep.trial(tree)

    def path(self, *overrides: str, seed: int = 0) -> tuple[Stage, ...]:
        return path_of(self.trial(*overrides), self.facts, seed=seed, shared_seed=0)

    def walk(
        self, root: Path, *overrides: str, seed: int = 0, until: str = "", **runtime: Any
    ) -> Iterator[Event]:
        path = self.path(*overrides, seed=seed)
        return walk(path, self.context(root, *overrides, **runtime), until=until)

    def context(self, root: Path, *overrides: str, **runtime: Any) -> TrainingContext:
        trial, store = self.trial(*overrides), StageStore(root)
        how = replace(Runtime(cache=self.cache, evaluations=2), **runtime)
        return TrainingContext(trial.model, self.open_data(trial), store, how, self.group)

    def make(self, root: Path, *overrides: str, seed: int = 0, **runtime: Any) -> list[Event]:
        return list(self.walk(root, *overrides, seed=seed, **runtime))

    def checkpoints(self, root: Path, *overrides: str) -> dict[int, dict[str, torch.Tensor]]:
        """Make a trial whose target training is stopped and continued at each of its evaluations;
        returns its weights there by step."""
        store, key = StageStore(root), self.path(*overrides)[-2].key
        weights: dict[int, dict[str, torch.Tensor]] = {}
        while store.record(key) is None:
            events = self.walk(root, *overrides)
            for event in events:
                if isinstance(event, Evaluated) and (
                    event.stage.key == key and event.step not in weights
                ):
                    break
            stop(events)
            if (progress := store.find_progress(key)) is not None:
                folder = store.fetch_progress(progress, "test")
                weights[progress.step] = load_file(folder / "weights.safetensors")
        return weights

    def bits(self, root: Path, *overrides: str, seed: int = 0) -> str:
        """Digest of the target stage's weights."""
        target = self.path(*overrides, seed=seed)[-2]
        folder = StageStore(root).folder(target.key)
        state = hashlib.sha256()
        for file in sorted(folder.rglob("*.safetensors")):
            state.update(file.read_bytes())
        return state.hexdigest()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    import torch
    import transformers

    from xlt_ray.data.sources.base import open_source

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    opened: dict[Any, Any] = {}

    def open_data(trial: TrialSpec) -> Any:
        return opened.setdefault(trial.data, open_source(trial.data))

    sweep = sweep_of(
        parse_document(
            TINY,
            "tiny.yaml",
            ["target.task={choice: [toy-paraphrase, toy-tagging]}",
             "target.robust={choice: [{method: none}, {method: augment}]}",
             "align={choice: [null, {objective: code_switch_mlm, max_length: 32}]}"],
        )
    )  # fmt: skip
    group = join_process_group(0, 1, "cpu")
    return Bench(facts_of(sweep), tmp_path_factory.mktemp("cache"), group, open_data)


@pytest.fixture(scope="session")
def alone(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the tiny trial was made, alone, under the plain runtime."""
    root = tmp_path_factory.mktemp("alone")
    bench.make(root)
    return root
