"""From the end of a trial to the first training step of the next, in one warm process on one core.

    python -m benchmarks.turnaround DATA MODEL [--trials N]

DATA is a folder as the `files` source reads it, with `pos/`; MODEL is a BERT folder. The trials of
xlt-ray are those of a sweep over the learning rate, walked one after another as a trial's process
does. The peer is a class trainable's loop that keeps its process, too, and imports nothing anew: it
reads the same files, tokenises the sentences that it trains and selects on, and loads
`BertForTokenClassification`. Both train on the same number of English sentences.

The clock starts when the last trial has ended, and stops when the optimizer has made its first
step. The first trial of each side, which imports and fills caches, is shown apart.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import (
    AutoTokenizer,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
)
from transformers.utils import logging

import xlt_ray
from benchmarks.common import Spent, make_stages, median_and_p95, print_table
from benchmarks.parity import TAGS, Sentence, read_conllu
from xlt_ray.config.sweep import load_sweep
from xlt_ray.home import Home
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.sweep.tasks import task_for

SIZE, BATCH_SIZE, MAX_LENGTH = 320, 32, 128
SWEEP = f"""
name: turnaround
data: {{source: files, root: data}}
model: model
target:
  task: pos
  source_language: en
  size: {SIZE}
  epochs: 1
  batch_size: {BATCH_SIZE}
  max_length: {MAX_LENGTH}
  learning_rate: {{float: [1.0e-5, 1.0e-4], log: true}}
  evaluations: 1
evaluate: {{languages: [en], examples: 32}}
objective: {{metric: accuracy, split: dev, languages: source, mode: max}}
search: {{sampler: random, trials: 2}}
"""


class FirstSteps:
    """What went by from one call of :meth:`start` to the first step of any optimizer after it."""

    def __init__(self) -> None:
        self.spent: list[Spent] = []
        self._began: Spent | None = None
        register_optimizer_step_post_hook(self._on_step)

    def start(self) -> None:
        self._began = _now()

    def _on_step(self, *_: Any) -> None:
        if self._began is not None:
            self.spent.append(_now() + -self._began)
            self._began = None


def _now() -> Spent:
    return Spent(time.perf_counter(), time.process_time())


def trials_of_xlt_ray(data: Path, model: Path, folder: Path, num_trials: int) -> Iterator[None]:
    """Yields before each trial, and after the last."""
    file = folder / "turnaround.yaml"
    file.write_text(SWEEP)
    overrides = [f"data.root={data}", f"model={model}", f"search.trials={num_trials}"]
    sweep, home = load_sweep(file, overrides), Home(folder / "home")
    facts, plan = facts_of(sweep), xlt_ray.plan(sweep, home=home.root)
    for planned in plan.trials:
        trial = sweep.trial_of(dict(planned.assignment), facts.model_bounds)
        task = task_for(planned.number, trial, planned.path, sweep, home)
        yield
        assert not [event for event in make_stages(task) if event.reused]
    yield


def trials_of_peer(data: Path, model: Path, num_trials: int) -> Iterator[None]:
    """Yields before each trial, and after the last."""
    for _ in range(num_trials):
        yield
        train_once(data / "pos", model)
    yield


def train_once(folder: Path, model: Path) -> None:
    train = [sentence for _, sentence in read_conllu(folder / "en.train.conllu")][:SIZE]
    dev = [sentence for _, sentence in read_conllu(folder / "en.dev.conllu")]
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows, _ = encoded(train, tokenizer), encoded(dev, tokenizer)
    collate = DataCollatorForTokenClassification(tokenizer)
    network = BertForTokenClassification.from_pretrained(model, num_labels=len(TAGS))
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=1.0e-5, fused=True)
    for begin in range(0, SIZE, BATCH_SIZE):
        batch = collate(rows[begin : begin + BATCH_SIZE])
        network(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def encoded(sentences: list[Sentence], tokenizer: Any) -> list[dict[str, list[int]]]:
    """Pieces of each sentence; a word's tag stands at its first piece."""
    words = [list(sentence.words) for sentence in sentences]
    pieces = tokenizer(words, is_split_into_words=True, truncation=True, max_length=MAX_LENGTH)
    rows = []
    for number, sentence in enumerate(sentences):
        owners = [-1 if owner is None else owner for owner in pieces.word_ids(number)]
        tags = [
            TAGS.index(sentence.tags[owner]) if owner >= 0 and owner != before else -100
            for before, owner in zip([-1, *owners], owners, strict=False)
        ]
        rows.append({name: pieces[name][number] for name in pieces} | {"labels": tags})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--trials", type=int, default=6)
    arguments = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", DS_ACCELERATOR="cpu", RAYON_NUM_THREADS="1")
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    data, model = arguments.data.resolve(), arguments.model.resolve()
    clock, rows = FirstSteps(), []
    with tempfile.TemporaryDirectory() as name:
        sides = {
            "xlt-ray": trials_of_xlt_ray(data, model, Path(name), arguments.trials),
            "class trainable's loop": trials_of_peer(data, model, arguments.trials),
        }
        for side, trials in sides.items():
            clock.spent.clear()
            for _ in trials:
                clock.start()
            first, *rest = clock.spent
            assert len(rest) == arguments.trials - 1
            for clock_name in ("cpu", "wall"):
                median, p95 = median_and_p95(getattr(spent, clock_name) for spent in rest)
                rows.append(
                    (side, clock_name, f"{1e3 * getattr(first, clock_name):.0f}", median, p95)
                )
    print_table(("", "ms", "first trial", "later: median", "95 %"), rows)


if __name__ == "__main__":
    main()
