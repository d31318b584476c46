"""What a trial spends before its first batch, where the training set is large.

    python -m benchmarks.big_data MODEL [--pairs N] [--sizes 1000 all]

MODEL is a folder with a fast tokenizer. N made-up sentence pairs are as long as those of MNLI, the
100,000 words in them as frequent as words are (Zipf). The peer is what a researcher writes:
`load_dataset("csv")`, a shuffled subset, `map` with the tokenizer and the cache of the library,
batches by `DataCollatorWithPadding`. Each row is a process of its own, which has imported
everything before the clock starts. *cold*: nothing is cached; *warm*: another process has done the
same before; *next trial*: the same process does it once more.

CPU seconds count all threads. *own MiB*: growth of the memory that is the process's alone; pages of
mapped files, which the system may drop, are not in it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Spent, print_table, timed

BATCH_SIZE = 32
MAX_LENGTH = 128
NUM_WORDS = 100_000
LENGTHS = (20, 10)
"""Mean words of the first and the second sentence."""
LABELS = ("entailment", "neutral", "contradiction")


def write_pairs(file: Path, num_pairs: int) -> None:
    random = np.random.default_rng(0)
    letters = np.array(list("aeioulnrstdmkg"))
    words = ["".join(random.choice(letters, random.integers(2, 10))) for _ in range(NUM_WORDS)]
    ends = np.cumsum(1 / np.arange(1, NUM_WORDS + 1))
    ends /= ends[-1]
    file.parent.mkdir(parents=True)
    with file.open("w", encoding="utf-8") as stream:
        stream.write("id\tsentence1\tsentence2\tlabel\n")
        for number in range(num_pairs):
            first, second = (1 + int(random.poisson(mean - 1)) for mean in LENGTHS)
            drawn = np.searchsorted(ends, random.random(first + second)).tolist()
            text = [words[place] for place in drawn]
            sides = (" ".join(text[:first]), " ".join(text[first:]))
            stream.write("\t".join([str(number), *sides, LABELS[number % 3]]) + "\n")


def by_xlt_ray(root: Path, cache: Path, model: str, size: Any) -> Callable[[], Any]:
    """What a trial does with its training set: its files compared, its tokenizer, its batches."""
    from xlt_ray.config.trial import FilesData, Model
    from xlt_ray.data.batches.supervised import BatchSettings, train_batches
    from xlt_ray.data.label_access import LabelAccess
    from xlt_ray.data.sources.base import open_source
    from xlt_ray.data.task import task_named
    from xlt_ray.modeling.encoder import load_tokenizer
    from xlt_ray.store.store import StageStore
    from xlt_ray.training.load import TrainingContext
    from xlt_ray.training.runtime import Runtime

    data, task = FilesData(source="files", root=str(root)), task_named("xnli")

    def first_batch() -> Any:
        named, source = Model(name=model), open_source(data, cache)
        context = TrainingContext(named, source, StageStore(cache / "stages"), Runtime(cache=cache))
        source.splits(task)
        pipeline = context.pipeline(load_tokenizer(named, None), MAX_LENGTH)
        access = LabelAccess("train", task.name, "en")
        return train_batches(
            source, task, access, size, pipeline, BatchSettings(BATCH_SIZE, 0)
        ).batch(0)

    return first_batch


def by_datasets(root: Path, cache: Path, model: str, size: Any) -> Callable[[], Any]:
    """The peer."""
    import datasets
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorWithPadding

    datasets.disable_progress_bars()
    file = str(root / "pairs" / "xnli" / "en.train.tsv")

    def first_batch() -> Any:
        tokenizer = AutoTokenizer.from_pretrained(model)
        rows = datasets.load_dataset(
            "csv", data_files=file, delimiter="\t", split="train", cache_dir=str(cache)
        ).shuffle(seed=0)
        if size != "all":
            rows = rows.select(range(size))

        def encoded(batch: Any) -> Any:
            text = (batch["sentence1"], batch["sentence2"])
            pieces = tokenizer(*text, truncation=True, max_length=MAX_LENGTH)
            return {**pieces, "labels": [LABELS.index(label) for label in batch["label"]]}

        rows = rows.map(encoded, batched=True, remove_columns=rows.column_names)
        collate = DataCollatorWithPadding(tokenizer)
        return next(iter(DataLoader(rows, BATCH_SIZE, shuffle=True, collate_fn=collate)))

    return first_batch


SIDES = {"xlt-ray": by_xlt_ray, "datasets": by_datasets}


def measured(side: str, *place: Any) -> list[tuple[Spent, float]]:
    """What the first batch took and how much memory grew, twice in this process."""
    import torch

    torch.set_num_threads(1)
    first_batch = SIDES[side](*place)
    results = []
    for _ in range(2):
        before = _own_bytes()
        batch, spent = timed(first_batch, time.process_time)
        assert len(batch["labels"]) == BATCH_SIZE
        results.append((spent, (_own_bytes() - before) / 2**20))
    return results


def _own_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Anonymous":
            return int(value.split()[0]) * 1024
    raise OSError("the kernel does not say how much memory a process has")


def in_new_process(side: str, *place: Any) -> list[tuple[Spent, float]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(measured, side, *place).result()


def rows(folder: Path, model: str, sizes: list[Any]) -> Iterator[tuple[str, ...]]:
    for size in sizes:
        for side in SIDES:
            cache = folder / "cache"
            (cold, _), (warm, again) = (
                in_new_process(side, folder / "data", cache, model, size) for _ in range(2)
            )
            for state, (spent, memory) in (("cold", cold), ("warm", warm), ("next trial", again)):
                figures = (f"{spent.cpu:.2f}", f"{spent.wall:.2f}", f"{memory:.0f}")
                yield (f"{size:,}" if size != "all" else size, side, state, *figures)
            shutil.rmtree(cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--pairs", type=int, default=400_000)
    parser.add_argument("--sizes", nargs="+", default=["1000", "all"])
    arguments = parser.parse_args()
    # Both sides on one core.
    os.environ |= {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sizes = [size if size == "all" else int(size) for size in arguments.sizes]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "data" / "pairs" / "xnli" / "en.train.tsv", arguments.pairs)
        head = ("size", "", "state", "CPU s", "wall s", "own MiB")
        print_table(head, rows(folder, str(arguments.model.resolve()), sizes))


if __name__ == "__main__":
    main()
