"""A finished sweep without any training: real ledger, real store, made-up scores.

16 configurations of three seeds over five parameters in six languages; among them pruned and failed
trials, one that runs, and scores that are missing.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import sample_results
from tests.sample_results import facts_of, seconds_of
from tests.two_models import bounds
from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.trial import TrialSpec
from xlt_ray.config.yaml import parse_document
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, StageUse, TrialView, open_ledger
from xlt_ray.report.frames import Snapshot, read_snapshot
from xlt_ray.report.page import write_report
from xlt_ray.report.tables import (
    Group,
    LanguageTable,
    Row,
    TrialScores,
    cells_of,
    mean_of,
    tables_of,
)
from xlt_ray.store.evaluation_items import Items, item_ids
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore

SWEEP = """
name: quick
data: {source: toy}
model: {choice: ["toy:2x64", "toy:4x64"]}
intermediate: {choice: [null, {task: toy-paraphrase, size: {choice: [500, 2000, 8000]}}]}
target:
  task: toy-nli
  source_language: qaa
  size: 8000
  fusion: {method: dlfa, layer: {int: [0, num_layers - 1]}}
  hybrid: {ratio: {float: [0.0, 1.0]}}
objective: {metric: accuracy}
search: {sampler: random, trials: 16, seeds: 3, seed: 5, training_seed: 5}
"""
LANGUAGES = ("qaa", "qab", "qac", "qad", "qae", "qaf")
DISTANCE = {"qaa": 0.0, "qab": 0.06, "qac": 0.10, "qad": 0.17, "qae": 0.27, "qaf": 0.33}
NOWHERE_SCORED = 6
"""The configuration that has no scores in qaf."""
FEW_ITEMS = {"qaf": 40}
CUT = {"qac": 0.25}
"""Share of the examples that no row has room for."""
NEAR_CONSTANT = (4, 1)
"""The configuration and repeat whose network says one label to nearly everything in qab."""
ONCE_NOT_SCORED = 3
"""The configuration of which one seed has no scores in qae."""


@dataclass(frozen=True)
class Finished:
    """A sweep with everything that a report is made from."""

    home: Home
    sweep: SweepSpec
    ledger: Ledger
    store: StageStore

    def snapshot(self) -> Snapshot:
        return read_snapshot(self.ledger, self.store)

    def report(self, root: Path | None = None) -> Path:
        """Write its report, to another home where a root is given; returns the page."""
        home = self.home if root is None else Home(root)
        return write_report(home, self.ledger, self.store)


def facts() -> Facts:
    return facts_of(LANGUAGES)


def scores_of(trial: TrialSpec, view: TrialView) -> tuple[Score, ...]:
    noise = random.Random(view.configuration * 100 + view.repeat)
    place = (view.configuration, view.repeat)
    model = 0.05 if trial.model.name == "toy:4x64" else 0.0
    size = trial.intermediate.size if trial.intermediate else 0
    assert isinstance(size, int)
    gain = 0.035 * math.log2(1 + size / 250)
    ratio = trial.target.hybrid.ratio
    layer = getattr(trial.target.fusion, "layer", 0)
    rows: list[Score] = []
    for split in ("dev", "test"):
        for language in LANGUAGES if split == "test" else LANGUAGES[:1]:
            if language == "qaf" and view.configuration == NOWHERE_SCORED:
                continue
            if language == "qae" and place == (ONCE_NOT_SCORED, 1):
                continue
            far = DISTANCE[language]
            value = 0.62 + model + gain * 0.6 - far + 0.5 * far * ratio - 0.03 * ratio
            value += 0.01 * layer + noise.gauss(0, 0.012)
            num_items = FEW_ITEMS.get(language, 400)
            is_constant = (language, split) == ("qab", "test") and place == NEAR_CONSTANT
            counts: dict[str, Any] = {
                "num_examples": num_items,
                "num_items": num_items,
                "top_share": 0.985 if is_constant else 0.41,
                "gold_top_share": 0.36,
                "cut": CUT.get(language, 0.0),
            }
            for metric, score, chance in (
                ("accuracy", value, 0.36),
                ("macro_f1", value - 0.02, 0.176),
            ):
                rows.append(
                    Score(
                        "toy-nli", language, split, metric, round(score, 4), chance=chance, **counts
                    )
                )
    return tuple(rows)


def items_of(scores: tuple[Score, ...], view: TrialView) -> list[Items]:
    """Items whose mean every test score is; those of one number are translations."""
    found = []
    for score in scores:
        if (score.role, score.split, score.metric) == ("target", "test", "accuracy"):
            difficulty = np.random.default_rng(LANGUAGES.index(score.language))
            luck = np.random.default_rng(100 * view.configuration + view.repeat)
            noise = difficulty.normal(0, 0.4, score.num_examples)
            noise += luck.normal(0, 0.2, score.num_examples)
            points = score.value + noise - noise.mean()
            ids = item_ids(map(str, range(score.num_examples)))
            parts = {"accuracy": (points, np.ones(len(points)))}
            found.append(Items("target", "toy-nli", score.language, "test", ids, parts))
    return found


def history_of(stage: Stage, dev: float) -> tuple[dict[str, Any], ...]:
    """Four evaluations of a target stage; the last but one is the best of every third seed."""
    if stage.kind != "target":
        return ()
    early = 0.01 if stage.seed % 3 == 0 else -0.01
    values = (dev - 0.2, dev - 0.05, dev + early, dev)
    return tuple(
        {
            "step": 100 * turn,
            "examples": stage.num_examples * turn // 4,
            "metrics": {"loss": 1.0 / turn, "accuracy": round(value, 4)},
        }
        for turn, value in enumerate(values, start=1)
    )


def commit(
    store: StageStore,
    stage: Stage,
    scores: tuple[Score, ...] = (),
    dev: float = 0.0,
    items: Sequence[Items] = (),
) -> None:
    time = datetime.datetime.now(datetime.UTC).isoformat()
    made_by = {"commit": "0123abc", "host": "here", "time": time}
    sample_results.commit(store, stage, scores, history_of(stage, dev), made_by, items)


def walk(run: Finished, view: TrialView, *, until: str = "evaluate") -> None:
    """Commit the stages of a trial down to ``until`` and note them in the ledger."""
    trial = run.sweep.trial_of(dict(view.assignment), bounds)
    uses: list[StageUse] = []
    for stage in path_of(trial, facts(), seed=view.seed, shared_seed=5)[1:]:
        reused = stage in run.store
        scores = scores_of(trial, view)
        dev = next(score.value for score in scores if score.split == "dev")
        is_last = stage.kind == "evaluate"
        items = items_of(scores, view) if is_last else ()
        commit(run.store, stage, scores if is_last else (), dev, items)
        examples = 0 if reused else stage.num_examples
        seconds = 0.0 if reused else seconds_of(stage)
        uses.append(StageUse(stage.kind, stage.key, stage.label, reused, examples, seconds))
        if stage.kind == until:
            break
    run.ledger.set_stages(view.number, uses)


def end(run: Finished, view: TrialView) -> None:
    """Bring one trial to the end that this sweep has for it."""
    ledger, number, place = run.ledger, view.number, (view.configuration, view.repeat)
    ledger.begin_attempt(number)
    trial = run.sweep.trial_of(dict(view.assignment), bounds)
    dev = next(score.value for score in scores_of(trial, view) if score.split == "dev")
    ledger.report(number, 6000, dev - 0.08)
    if view.configuration in (5, 11) or place == (9, 2):
        walk(run, view, until="intermediate")
        ledger.tell_pruned(number)
    elif place == (7, 0):
        walk(run, view, until="intermediate")
        message = "the device is full <8 GiB>; use resources.micro_batch=8"
        ledger.tell_failed(number, "memory", message, "Traceback\nCUDA out of memory")
    elif place == (12, 1):
        ledger.tell_failed(number, "nan", "the loss is not a number after 40 steps")
    elif place != (15, 2):
        ledger.report(number, 24000, dev)
        walk(run, view)
        ledger.tell_complete(number, dev)


def finished(home: Home, text: str = SWEEP) -> Finished:
    sweep = sweep_of(parse_document(text, "quick.yaml"))
    found = Finished(home, sweep, open_ledger(home, sweep), StageStore(home.stages))
    while (asked_trial := found.ledger.ask(sweep, bounds)) is not None:
        end(found, found.ledger.trial(asked_trial.number))
    return found


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The sweep; tests only read it."""
    return finished(Home(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def snapshot(quick: Finished) -> Snapshot:
    return quick.snapshot()


@pytest.fixture(scope="session")
def table(snapshot: Snapshot) -> LanguageTable:
    (only,) = tables_of(snapshot)
    return only


def sized(trials: int, seeds: int = 1, text: str = SWEEP) -> str:
    """The sweep file with fewer trials and seeds."""
    return text.replace("trials: 16, seeds: 3", f"trials: {trials}, seeds: {seeds}")


def made_table(
    parameters: Sequence[Mapping[str, Any]],
    trials: Sequence[Sequence[TrialScores]],
    groups: Sequence[Group] = (),
) -> LanguageTable:
    """A table of configurations with these parameters and trials; ``qaa`` is the source."""
    languages = sorted({code for part in trials for trial in part for code in trial.scores})
    rows = []
    for number, (assignment, part) in enumerate(zip(parameters, trials, strict=True)):
        means = {group.title: mean_of(part, group.languages) for group in groups}
        rows.append(
            Row(
                configuration=number,
                parameters=assignment,
                states={"complete": len(part)},
                trials=tuple(part),
                objective=mean_of(part, ["qaa"]),
                cells=cells_of(part, languages),
                mean=mean_of(part, languages),
                mean_without_source=mean_of(part, [code for code in languages if code != "qaa"]),
                groups={title: cell for title, cell in means.items() if cell},
            )
        )
    return LanguageTable(
        "t", "accuracy", "qaa", tuple(languages), tuple(parameters[0]), (len(trials[0]),),
        tuple(rows), tuple(groups),
    )  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Finished:
    """The first three configurations with one seed, for tests that change something."""
    return finished(Home(tmp_path), sized(3))


@pytest.fixture
def oracle(tmp_path: Path) -> Finished:
    text = sized(2).replace("metric: accuracy", "metric: accuracy, languages: target")
    return finished(Home(tmp_path), text)


def csv_rows(text: str | Path) -> list[dict[str, str]]:
    """Rows of a CSV file, or of its text."""
    if isinstance(text, Path):
        text = text.read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))
