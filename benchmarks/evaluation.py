"""Scoring many languages: one pass over all of them, against a loop over the languages.

``python -m benchmarks.evaluation DATA MODEL [--task ner-panx] [--languages 35] [--rows 64]``. The
same network scores the same encoded rows on one thread, by turns: in one pass
(:func:`xlt_ray.training.evaluate.score`); language by language, sorted by length within each; and
language by language with every row padded to ``--max-length``. Text is tokenised before.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.common import Spent, print_table, timed
from xlt_ray.config.methods import NoFusion
from xlt_ray.config.trial import Model
from xlt_ray.data.batches.evaluation import EvalBatches, EvalSplit, eval_split
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.data.text.pipeline import Batch, TextPipeline
from xlt_ray.data.types.base import kind_of
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer
from xlt_ray.modeling.network import Network, build_network
from xlt_ray.training.evaluate import EvalPass, EvalSet, score

BATCH_SIZE = 64


class Rows(NamedTuple):
    """Items of a split, as a loop over one language takes them."""

    numbers: np.ndarray
    items: list[Any]
    arrays: Batch


def batches_of(split: EvalSplit, *, is_sorted: bool, length: int = 0) -> Iterator[Rows]:
    """Batches of a fixed number of rows, padded to ``length`` if it is given."""
    kind = kind_of(split.task)
    order = np.argsort(-split.lengths, kind="stable") if is_sorted else np.arange(split.num_items)
    for begin in range(0, len(order), BATCH_SIZE):
        numbers = order[begin : begin + BATCH_SIZE]
        items, labels = zip(*map(split.item, numbers.tolist()), strict=True)
        arrays = kind.batch(items, labels, split.frame)
        if length:
            padding = {"input_ids": split.frame.template.pad_id, "labels": -100}
            for name, array in arrays.items():
                if array.ndim == 2:
                    widths = ((0, 0), (0, length - array.shape[1]))
                    arrays[name] = np.pad(array, widths, constant_values=padding.get(name, 0))
        yield Rows(numbers, list(items), arrays)


def loop(
    network: Network, splits: list[EvalSplit], *, is_sorted: bool, length: int = 0
) -> list[dict[str, float]]:
    """The scores of each language, one after the other."""
    scores = []
    for split in splits:
        decoded: list[Any] = [None] * split.num_items
        for numbers, items, arrays in batches_of(split, is_sorted=is_sorted, length=length):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            del tensors["labels"]
            with torch.no_grad():
                answers = network.head.answers(network(tensors)).numpy()
            of_batch = kind_of(split.task).decode(items, answers, split.frame)
            for number, answer in zip(numbers.tolist(), of_batch, strict=True):
                decoded[number] = answer
        scores.append(split.score(decoded))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", default="ner-panx")
    parser.add_argument("--languages", type=int, default=35)
    parser.add_argument("--rows", type=int, default=64, help="of each language")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task, source, model = task_named(arguments.task), FilesSource(arguments.data), arguments.model
    tokenizer = load_tokenizer(Model(name=str(model)), ())
    encoder = load_encoder(Model(name=str(model)), tokenizer, 0)
    network = build_network(encoder, task.kind, NoFusion(), len(task.labels), 0).eval()
    languages = sorted(code for code, split in source.splits(task) if split == "test")
    access = LabelAccess("evaluate", task.name, "en")
    with tempfile.TemporaryDirectory() as cache:
        pipeline = TextPipeline(tokenizer, "benchmark", arguments.max_length, Path(cache))
        splits = [
            eval_split(source, task, access, language, "test", arguments.rows, pipeline)
            for language in languages[: arguments.languages]
        ]
        compare(network, splits, arguments.max_length, arguments.repeats)


def compare(network: Network, splits: list[EvalSplit], max_length: int, repeats: int) -> None:
    eval_pass = EvalPass([EvalSet(split) for split in splits], BATCH_SIZE)
    padded: dict[str, Any] = {"is_sorted": False, "length": max_length}
    sides: dict[str, tuple[Callable[[], Any], list[Batch]]] = {
        "one pass": (
            partial(score, network, eval_pass),
            [batch.arrays for batch in EvalBatches(splits, BATCH_SIZE)],
        ),
        "a loop, sorted": (
            partial(loop, network, splits, is_sorted=True),
            [rows.arrays for split in splits for rows in batches_of(split, is_sorted=True)],
        ),
        "a loop, padded": (
            partial(loop, network, splits, **padded),
            [rows.arrays for split in splits for rows in batches_of(split, **padded)],
        ),
    }
    spent: dict[str, list[Spent]] = {side: [] for side in sides}
    scores: dict[str, Any] = {}
    for call, _ in sides.values():
        call()
    for _ in range(repeats):
        for side, (call, _) in sides.items():
            scores[side], took = timed(call)
            spent[side].append(took)
    rows = []
    for side, (_, batches) in sides.items():
        num_cells = sum(arrays["input_ids"].size for arrays in batches)
        num_pieces = sum(int(arrays["attention_mask"].sum()) for arrays in batches)
        ratios = [
            slow.cpu / took.cpu
            for slow, took in zip(spent["a loop, padded"], spent[side], strict=True)
        ]
        differences = [
            abs(value - exact[metric])
            for score, exact in zip(scores[side], scores["a loop, padded"], strict=True)
            for metric, value in score.items()
        ]
        rows.append(
            [
                side,
                f"{len(batches)}",
                f"{num_cells / num_pieces:.2f}",
                f"{statistics.median(took.cpu for took in spent[side]):.2f}",
                f"{statistics.median(took.wall for took in spent[side]):.2f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{max(differences):.1g}",
            ]
        )
    print(f"{splits[0].task.name}: {len(splits)} languages, {num_pieces} pieces")
    head = ["", "batches", "cells a piece", "CPU, s", "wall, s", "padded / this", "score off by"]
    print_table(head, rows)


if __name__ == "__main__":
    main()
