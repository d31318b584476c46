"""Where the rounds take place: a cluster of Ray and a server of MLflow, started for them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sweeps.spoiling import write_spoilt
from tests.sweeps.test_outage import Server
from xlt_ray.config.facts import Split
from xlt_ray.config.trial import Model
from xlt_ray.data.sources.toy.toy_source import ToySource
from xlt_ray.data.task import task_named
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer, save_encoder

NODES = 2
IN_FILES = {"toy-nli": "xnli", "toy-paraphrase": "pawsx"}
COUNTED = """
_steps = 0


def meet(engine, micro_batches):
    from pathlib import Path

    global _steps
    _steps += 1
    here = Path(__file__).parent
    with (here / "examples").open("a") as file:
        file.write(f"{sum(len(one['labels']) for one in micro_batches)}\\n")
    fault, met = here / "fault", here / "met"
    if fault.exists() and not met.exists():
        step, code = fault.read_text().split("\\n", 1)
        if _steps >= int(step):
            met.touch()
            exec(code, {"engine": engine})


def note(stages):
    import os
    from pathlib import Path

    here = Path(__file__).parent
    last, met = here / "last_note", here / "met"
    if last.exists() and not met.exists() and not stages[-1].reused:
        left = int(last.read_text()) - 1
        last.write_text(str(left))
        if left == 0:
            met.touch()
            os.kill(os.getpid(), 9)
"""
"""Every worker notes what it is about to train; one of them meets the fault, where there is one.
The driver dies before a note of a stage that was trained, where that was asked for."""
FULL = """
import builtins
import errno
import io
import os
from pathlib import Path

_open = builtins.open
_full = Path(__file__).parent / "full"
_is_full = False


class FullDisk(io.FileIO):
    def write(self, content):
        global _is_full
        if _is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _is_full = _full.exists()
        if _is_full:
            _full.unlink()
            content = content[: len(content) // 2]
        return super().write(content)


def open_on_full_disk(file, mode="r", buffering=-1, *rest, **more):
    if mode == "ab" and buffering == 0 and str(file).endswith(".journal"):
        return FullDisk(file, mode)
    return _open(file, mode, buffering, *rest, **more)


builtins.open = open_on_full_disk
"""
"""A process that appends to a journal after the disk was filled gets half of it written, and then
nothing any more; the next process has room."""
_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@dataclass
class Grounds:
    """A cluster with a head that takes no trials and two nodes of one CPU, and a server."""

    server: Server
    cluster: Any
    spoilt: Path
    """Read by every Python process here: what was trained, and what is to go wrong."""
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose_node(self) -> None:
        """One node dies without a word, and everything on it."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def mend(self) -> None:
        """Two nodes again."""
        while len(self.nodes) < NODES:
            self.nodes.append(self.cluster.add_node(**_NODE))

    def arm(self, step: int, fault: str) -> None:
        """One worker of one trial meets ``fault``, once, before its step of this number."""
        (self.spoilt / "fault").write_text(f"{step}\n{fault}")

    def arm_note(self, number: int) -> None:
        """The driver dies when it hears of its ``number``-th stage that a trial has trained."""
        (self.spoilt / "last_note").write_text(str(number))

    def disarm(self) -> bool:
        """No fault from now on; whether it was met."""
        met = self.spoilt / "met"
        is_met = met.exists()
        for file in (met, self.spoilt / "fault", self.spoilt / "last_note"):
            file.unlink(missing_ok=True)
        return is_met

    def fill_disk(self) -> None:
        """The driver has no space left, from the middle of its next write to the ledger."""
        (self.spoilt / "full").touch()

    def num_examples(self) -> int:
        """Trained so far by all workers; a step that was broken off counts as a whole."""
        file = self.spoilt / "examples"
        return sum(map(int, file.read_text().split())) if file.exists() else 0


@contextlib.contextmanager
def grounds(root: Path) -> Iterator[Grounds]:
    """Everything is ended with the block."""
    from ray.cluster_utils import Cluster

    # Ray lets its workers yield to everything else, which a busy machine would make endless.
    path = write_spoilt(root / "spoilt", COUNTED + FULL)
    own = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0",
           "PYTHONPATH": path}  # fmt: skip
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(root, free.getsockname()[1])
    server.start()
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    made = Grounds(server, cluster, root / "spoilt")
    try:
        made.mend()
        yield made
    finally:
        cluster.shutdown()
        server.kill()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def write_files(root: Path) -> None:
    """The toy tasks that the rounds use as files below ``data/``, and the toy model in ``model/``,
    so that a round can change what it reads."""
    words: set[str] = set()
    source = ToySource(0)
    for toy, name in IN_FILES.items():
        folder = root / "data" / "pairs" / name
        folder.mkdir(parents=True)
        for language in ("qaa", "qab"):
            for split, number in _SIZES.items():
                examples = source.read(task_named(toy), language, split)[:number]
                rows = [
                    (example.id, example.first, example.second, example.label)
                    for example in examples
                ]
                words.update(word for row in rows for text in row[1:3] for word in text.split())
                lines = ["id\tsentence1\tsentence2\tlabel", *("\t".join(row) for row in rows)]
                file = folder / f"{language}.{split}.tsv"
                file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, tuple(sorted(words)))
    save_encoder(load_encoder(model, tokenizer, 0), tokenizer, root / "model")


_SIZES: dict[Split, int] = {"train": 400, "dev": 100, "test": 100}
