"""Scores of trainings whose batches hold rows of like length beside those of other batches.

    python -m benchmarks.batching DATA MODEL [--tasks pos stsb xnli] [--seeds N] [--size N]

DATA is a folder of the `files` source, MODEL a folder of an encoder. Every seed of every task is
trained three times, with batches as they are, with the order of rows left as it was shuffled, and
with `batching: pieces`, all else equal, and scored on the test sets of English and five other
languages. A table prints the mean scores, and the mean differences of the pairs with their 95 %
intervals (Student).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy import stats

from benchmarks.common import make_stages, print_table
from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.batches import supervised
from xlt_ray.data.batches.length_pools import Order
from xlt_ray.home import Home
from xlt_ray.store.record import values_by_language
from xlt_ray.store.stage_path import path_of
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import task_for

SWEEP = """
name: batching
target:
  source_language: en
  epochs: 3
  batch_size: 32
  learning_rate: 5.0e-4
  evaluations: 1
search: {trials: 1}
"""
LANGUAGES = {
    "pos": ("en", "de", "cs", "sv", "tr", "zh"),
    "stsb": ("en", "de", "es", "fr", "ru", "zh"),
    "xnli": ("en", "de", "es", "sw", "ru", "zh"),
    "pawsx": ("en", "de", "es", "fr", "ja", "zh"),
}


def as_shuffled(lengths: np.ndarray, *_: Any, **__: Any) -> Order:
    """In the place of :func:`by_length`: rows stay where they are."""
    return Order(np.arange(len(lengths)), np.zeros(0, np.int64))


class Study:
    """Trains one task in a folder for each way of batching."""

    def __init__(self, arguments: argparse.Namespace, task: str) -> None:
        languages = ", ".join(LANGUAGES[task])
        overrides = (f"data={{source: files, root: {arguments.data.absolute()}}}",
                     f"model={arguments.model.absolute()}",
                     f"target.task={task}", f"target.size={arguments.size}",
                     f"evaluate.languages=[{languages}]")  # fmt: skip
        self._sweep = sweep_of(parse_document(SWEEP, "batching.yaml", overrides))
        self._facts = facts_of(self._sweep)
        tree, _ = draw(
            self._sweep.space,
            lambda parameter: extremes(parameter.distribution)[0],
            self._facts.model_bounds,
        )
        self._trial = self._sweep.trial(tree)
        self._metric = self._facts.tasks[task].metrics[0]

    def scores(self, seed: int, home: Home, batching: str = "examples") -> np.ndarray:
        """(2,): the test score of English, and the mean of the others."""
        target = self._trial.target.model_copy(update={"batching": batching})
        trial = self._trial.model_copy(update={"target": target})
        path = path_of(trial, self._facts, seed=seed, shared_seed=0)
        *_, last = make_stages(task_for(seed, trial, path, self._sweep, home))
        scores = values_by_language(last.record.scores, "test", self._metric)
        others = [score for language, score in scores.items() if language != "en"]
        return np.array([scores["en"], np.mean(others)])


def difference(pairs: np.ndarray) -> str:
    """Mean of ``pairs`` (n,), with its interval, in points."""
    half = stats.t.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / len(pairs) ** 0.5
    mean = pairs.mean()
    return f"{100 * mean:+.2f} ({100 * (mean - half):+.2f} to {100 * (mean + half):+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["pos", "stsb", "xnli"], choices=LANGUAGES)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--size", type=int, default=2000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home, shuffled = (Home(Path(folder) / name) for name in ("home", "shuffled"))
        for task in arguments.tasks:
            study = Study(arguments, task)
            found = np.empty((3, arguments.seeds, 2))
            for seed in range(arguments.seeds):
                found[0, seed] = study.scores(seed, home)
                found[1, seed] = study.scores(seed, home, "pieces")
                with patch.object(supervised, "by_length", as_shuffled):
                    found[2, seed] = study.scores(seed, shuffled)
            for place, name in enumerate(("en", "others")):
                ours, by_pieces, drawn = found[:, :, place]
                rows.append((
                    task, name, *(f"{100 * scores.mean():.1f}" for scores in found[:, :, place]),
                    difference(ours - drawn), difference(by_pieces - ours),
                ))  # fmt: skip
    print_table(
        ("task", "test", "like length", "by pieces", "shuffled", "like length - shuffled",
         "by pieces - like length"),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
