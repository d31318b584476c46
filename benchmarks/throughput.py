"""Training examples a second: this package beside plain loops and the Trainer of transformers.

    python -m benchmarks.throughput DATA MODEL [--task pos] [--steps N] [--repeats N] [--threads N]

DATA is a folder of the `files` source, MODEL a folder of an encoder, TASK one of its tasks (tags,
pairs or spans). Every side trains on the same rows, encoded before, with the same rate, clipping
and batch size, in batches of its own order over the whole training set:

- `xlt` and `xlt, by pieces`: the training loop of a target stage, with `batching: examples` and
  with `batching: pieces`,
- `Trainer`: with its defaults, and with `train_sampling_strategy="group_by_length"` (both need
  accelerate),
- `loop, random` and `loop, sorted`: PyTorch alone with fused AdamW, batches at random or sorted by
  length in pools of 64 batches.

Every run is a process of its own, and sides alternate. Of a side's epoch `steps` batches are
trained, evenly spaced by the length of their rows, so that they have the epoch's mean length; the
first steps do not count. A table prints the padding of the whole epoch, examples a second of CPU
and wall time, and ratios of CPU time an example, each with the lowest and the highest of its
repeats.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch import nn

from benchmarks.common import Spent, print_table
from xlt_ray.config.progress_settings import ProgressSettings
from xlt_ray.config.search_space import draw, extremes
from xlt_ray.config.sweep import sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.batches.length_pools import POOL
from xlt_ray.data.batches.supervised import BatchSettings, train_batches
from xlt_ray.data.label_access import LabelAccess
from xlt_ray.data.sources.base import Source, open_source
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.pipeline import Batch, Batches
from xlt_ray.modeling.encoder import load_tokenizer
from xlt_ray.store.stage import Stage
from xlt_ray.store.stage_path import path_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.read_facts import facts_of
from xlt_ray.training.deepspeed_engine import Engine
from xlt_ray.training.load import TrainingContext
from xlt_ray.training.loop import Training
from xlt_ray.training.process_group import join_process_group
from xlt_ray.training.runtime import Runtime
from xlt_ray.training.setup import training_setup

BATCH_SIZE = 32
RATE = 1e-4
WARM_STEPS = 3
SEED = 3
SWEEP = """
name: throughput
target:
  source_language: en
  size: all
  epochs: 1
  batch_size: {batch_size}
  learning_rate: {rate}
  warmup: 0.0
  evaluations: 1
evaluate: {{languages: [en]}}
search: {{trials: 1}}
"""
HEADS = {
    "tag": transformers.AutoModelForTokenClassification,
    "pair": transformers.AutoModelForSequenceClassification,
    "span": transformers.AutoModelForQuestionAnswering,
}

Row = Mapping[str, np.ndarray]
Order = list[list[int]]
"""Numbers of the rows of every batch of an epoch."""


@dataclass(frozen=True)
class Case:
    """What all sides train."""

    model: Path
    task: Task
    stage: Stage
    context: TrainingContext
    rows: Sequence[Row]
    pad_id: int
    steps: int

    def network(self) -> nn.Module:
        """The encoder with a head of transformers."""
        torch.manual_seed(SEED)
        settings = {"num_labels": len(self.task.labels)} if self.task.kind != "span" else {}
        network: nn.Module = HEADS[self.task.kind].from_pretrained(self.model, **settings)
        return network.train()

    def collated(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Rows padded to the longest, as the heads of transformers read them."""
        length = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self.pad_id, "labels": -100}
        arrays = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            if values[0].ndim and name != "span":
                values = [
                    np.pad(value, (0, length - len(value)), constant_values=fill.get(name, 0))
                    for value in values
                ]
            arrays[name] = torch.from_numpy(np.stack(values))
        span = arrays.pop("span", None)
        if span is not None:
            arrays |= {"start_positions": span[:, 0], "end_positions": span[:, 1]}
        return arrays


@dataclass(frozen=True)
class Chosen:
    """Some batches of another sequence."""

    batches: Batches
    steps: Sequence[int]

    def batch(self, step: int) -> Batch:
        return self.batches.batch(self.steps[step])


def make_case(arguments: argparse.Namespace, root: Path) -> Case:
    text = SWEEP.format(batch_size=BATCH_SIZE, rate=RATE)
    overrides = (f"data={{source: files, root: {arguments.data.absolute()}}}",
                 f"model={arguments.model.absolute()}",
                 f"target.task={arguments.task}")  # fmt: skip
    sweep = sweep_of(parse_document(text, "throughput.yaml", overrides))
    facts = facts_of(sweep)
    tree, _ = draw(
        sweep.space, lambda parameter: extremes(parameter.distribution)[0], facts.model_bounds
    )
    trial = sweep.trial(tree)
    stage = path_of(trial, facts, seed=SEED, shared_seed=SEED)[-2]
    source = open_source(trial.data)
    runtime = Runtime(
        cache=root / "cache", progress=ProgressSettings(every=1e9), threads=arguments.threads
    )
    context = TrainingContext(trial.model, source, StageStore(root / "store"), runtime)
    tokenizer = load_tokenizer(trial.model, None)
    pipeline = context.pipeline(tokenizer, stage.settings["max_length"])
    task = task_named(arguments.task)
    return Case(
        arguments.model,
        task,
        stage,
        context,
        list(encoded_rows(source, task, pipeline)),
        pipeline.template.pad_id,
        arguments.steps + WARM_STEPS,
    )


def encoded_rows(source: Source, task: Task, pipeline: Any) -> Iterator[Row]:
    """Every row of the training set by itself, without padding."""
    singles = train_batches(
        source, task, LabelAccess("train", task.name, "en"), "all", pipeline,
        BatchSettings(1, SEED, is_nested=True),
    )  # fmt: skip
    for number in range(singles.num_examples):
        batch = singles.batch(number)
        for row in range(len(batch["labels"])):
            length = int(batch["attention_mask"][row].sum())
            arrays = {
                name: array[row][:length] if array.ndim > 1 and name != "labels" else array[row]
                for name, array in batch.items()
            }
            if task.kind == "span":
                arrays["span"] = arrays.pop("labels")
            elif arrays["labels"].ndim:
                arrays["labels"] = arrays["labels"][:length]
            yield arrays


def evenly(lengths: Sequence[int], number: int) -> list[int]:
    """Places of ``number`` batches, evenly spaced by their ``lengths``, in random order.

    >>> sorted(evenly([30, 10, 20, 40], 2))
    [2, 3]
    """
    ranked = np.argsort(lengths, kind="stable")
    places = ((np.arange(number) + 0.5) * len(lengths) / number).astype(int)
    return np.random.default_rng(SEED).permutation(ranked[places]).tolist()


def random_order(case: Case) -> Order:
    numbers = np.random.default_rng(SEED).permutation(len(case.rows)).tolist()
    return [numbers[begin : begin + BATCH_SIZE] for begin in range(0, len(numbers), BATCH_SIZE)]


def sorted_order(case: Case) -> Order:
    """Random rows, sorted by length in pools of batches, the batches in random order."""
    numbers, order = [number for batch in random_order(case) for number in batch], []
    for begin in range(0, len(numbers), POOL * BATCH_SIZE):
        pool = sorted(
            numbers[begin : begin + POOL * BATCH_SIZE],
            key=lambda number: len(case.rows[number]["input_ids"]),
        )
        order += [pool[at : at + BATCH_SIZE] for at in range(0, len(pool), BATCH_SIZE)]
    return order


def grouped_order(case: Case) -> Order:
    """The order of the Trainer's ``group_by_length``."""
    from transformers.trainer_pt_utils import LengthGroupedSampler

    lengths = [len(row["input_ids"]) for row in case.rows]
    random = torch.Generator().manual_seed(SEED)
    numbers = list(LengthGroupedSampler(BATCH_SIZE, lengths=lengths, generator=random))
    return [numbers[begin : begin + BATCH_SIZE] for begin in range(0, len(numbers), BATCH_SIZE)]


def longest_rows(case: Case, order: Order) -> tuple[list[int], float]:
    """The length of every batch, and the share of padding in the cells of all."""
    lengths = [[len(case.rows[number]["input_ids"]) for number in batch] for batch in order]
    num_cells = sum(len(batch) * max(batch) for batch in lengths)
    return [max(batch) for batch in lengths], 1 - sum(map(sum, lengths)) / num_cells


class Clock:
    """Time since the steps that count began."""

    def __init__(self) -> None:
        self._began = Spent()
        self._steps = 0

    def step(self) -> None:
        """A step has ended."""
        self._steps += 1
        if self._steps == WARM_STEPS:
            self._began = Spent(time.perf_counter(), time.process_time())

    def spent(self) -> Spent:
        return Spent(time.perf_counter(), time.process_time()) + -self._began


def loop(case: Case, order: Order) -> Spent:
    """PyTorch alone."""
    network, clock = case.network(), Clock()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, len(order))
    for batch in order:
        network(**case.collated([case.rows[number] for number in batch])).loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.step()
    return clock.spent()


def trainer(case: Case, order: Order) -> Spent:
    """The Trainer of transformers with its defaults, on the rows of ``order`` in their order."""
    clock = Clock()

    class OnStep(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step()

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH_SIZE,
            num_train_epochs=1,
            learning_rate=RATE,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
            logging_strategy="no",
        )
        transformers.Trainer(
            case.network(),
            arguments,
            data_collator=case.collated,
            train_dataset=[case.rows[number] for batch in order for number in batch],
            callbacks=[OnStep()],
        ).train()
    return clock.spent()


def xlt(case: Case, stage: Stage, steps: Sequence[int]) -> Spent:
    """The training loop of a target stage at the batches ``steps`` of its own order."""
    context = replace(case.context, group=join_process_group(0, 1, "cpu"))
    setup, _ = training_setup(stage, context)
    chosen = replace(
        setup, batches=Chosen(setup.batches, steps), num_steps=len(steps), evaluate=None, watch=None
    )
    engine, clock = Engine(chosen.network, stage.settings, context.runtime), Clock()
    step = engine.step

    def counted(*arguments: Any) -> Any:
        loss = step(*arguments)
        clock.step()
        return loss

    engine.step = counted  # type: ignore[method-assign]
    for _ in Training(engine, chosen, stage, context, None).run():
        pass
    return clock.spent()


def in_child(run: Callable[[], Spent]) -> Spent:
    """What ``run`` returns in a fork of this process: DeepSpeed's process group, which the Trainer
    would use, too, ends with it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(run()))
    child.start()
    sender.close()
    try:
        spent: Spent = receiver.recv()
    except EOFError:
        raise SystemExit("a run failed; see above") from None
    child.join()
    return spent


class Side(NamedTuple):
    """One way of training."""

    padding: float
    """Share of the cells of a whole epoch."""
    num_rows: int
    """Rows of the steps that count."""
    run: Callable[[], Spent]


def own_side(case: Case, batching: str) -> Side:
    """The training loop of a target stage."""
    settings = case.stage.settings if batching == "examples" else {
        **case.stage.settings, "batching": batching,
    }  # fmt: skip
    stage = replace(case.stage, settings=settings)
    setup, _ = training_setup(stage, case.context)
    masks = [setup.batches.batch(step)["attention_mask"] for step in range(setup.num_steps)]
    chosen = evenly([mask.shape[-1] for mask in masks], case.steps)
    return Side(
        1 - sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks),
        sum(len(masks[step]) for step in chosen[WARM_STEPS:]),
        lambda: xlt(case, stage, chosen),
    )


def sides(case: Case) -> dict[str, Side]:
    """All ways of training, by name."""
    found = {"xlt": own_side(case, "examples"), "xlt, by pieces": own_side(case, "pieces")}
    orders = {
        "loop, sorted": (sorted_order(case), loop),
        "loop, random": (random_order(case), loop),
    }
    if importlib.util.find_spec("accelerate"):
        orders |= {
            "Trainer, group_by_length": (grouped_order(case), trainer),
            "Trainer": (random_order(case), trainer),
        }
    for name, (order, run) in orders.items():
        lengths, padding = longest_rows(case, order)
        # Only whole batches: the Trainer would join a smaller one with the next.
        whole = [batch for batch in order if len(batch) == BATCH_SIZE]
        places = evenly(lengths[: len(whole)], case.steps)
        batches = [whole[place] for place in places]
        found[name] = Side(
            padding,
            BATCH_SIZE * (case.steps - WARM_STEPS),
            lambda run=run, batches=batches: run(case, batches),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", default="pos")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(arguments, Path(folder))
        contenders = sides(case)
        spent: dict[str, list[Spent]] = {name: [] for name in contenders}
        for _ in range(arguments.repeats):
            for name, side in contenders.items():
                spent[name].append(in_child(side.run))
    rows = []
    for name, side in contenders.items():
        cpu, wall = (
            statistics.median(side.num_rows / getattr(once, clock) for once in spent[name])
            for clock in ("cpu", "wall")
        )
        ratios = [
            theirs.cpu / side.num_rows / (ours.cpu / contenders["xlt"].num_rows)
            for theirs, ours in zip(spent[name], spent["xlt"], strict=True)
        ]
        rows.append((
            name, f"{side.padding:.1%}", f"{cpu:.1f}", f"{wall:.1f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        ))  # fmt: skip
    print(
        f"{arguments.task}, {arguments.model.name}, batches of {BATCH_SIZE}, {arguments.steps} "
        f"steps, {arguments.repeats} repeats, {arguments.threads} threads"
    )
    print_table(
        ("side", "padding", "rows/s, CPU", "rows/s, wall", "CPU time a row / that of xlt"),
        rows,
    )


if __name__ == "__main__":
    main()
