"""The environment of fault-injection rounds: a Ray cluster and an MLflow server."""

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
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.task import task_named
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer, save_encoder

NODES = 2
IN_FILES = {"toy-nli": "xnli", "toy-paraphrase": "pawsx"}
COUNT_EXAMPLES = """
_steps = 0


def meet(engine, micro_batches):
    import time
    from pathlib import Path

    global _steps
    _steps += 1
    time.sleep(0.02)
    here = Path(__file__).parent
    with (here / "examples").open("a") as file:
        rows = sum(len(batch['labels']) for passes in micro_batches for batch in passes)
        file.write(f"{rows}\\n")
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
"""Every worker writes how many examples it is about to train, and one of them runs the armed code.
A step takes at least 20 ms: a training looks four times a second whether a save is due, and steps
of a model this small would otherwise be too many between two looks to tell kept progress from lost.
The driver kills itself before the armed note of a trained stage."""
FULL_DISK = """
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
"""After ``fill_disk``, the process that appends to a journal writes half of the entry, and nothing
after that; the next process has space again."""
_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@dataclass
class Environment:
    """A Ray cluster (a head without CPUs and two nodes of one CPU) and an MLflow server."""

    server: Server
    cluster: Any
    control: Path
    """Folder with the number of trained examples and the armed faults; every process reads it."""
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def lose_node(self) -> None:
        """Kill one node with all of its processes."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def mend(self) -> None:
        """Start nodes until there are two again."""
        while len(self.nodes) < NODES:
            self.nodes.append(self.cluster.add_node(**_NODE))

    def arm(self, step: int, code: str) -> None:
        """The first worker that reaches this step runs ``code`` before it, once."""
        (self.control / "fault").write_text(f"{step}\n{code}")

    def arm_note(self, number: int) -> None:
        """The driver dies before it notes the ``number``-th stage that its trials trained."""
        (self.control / "last_note").write_text(str(number))

    def disarm(self) -> bool:
        """Remove the armed fault; return whether it happened."""
        met = self.control / "met"
        is_met = met.exists()
        for file in (met, self.control / "fault", self.control / "last_note"):
            file.unlink(missing_ok=True)
        return is_met

    def fill_disk(self) -> Path:
        """From the middle of its next write to the ledger, the driver has no disk space; returns
        the file that is there until then."""
        full = self.control / "full"
        full.touch()
        return full

    def num_examples(self) -> int:
        """Examples that all workers have trained; an interrupted step counts in full."""
        file = self.control / "examples"
        return sum(map(int, file.read_text().split())) if file.exists() else 0


@contextlib.contextmanager
def start_environment(root: Path) -> Iterator[Environment]:
    """Start cluster and server; stop them at the end of the block."""
    from ray.cluster_utils import Cluster

    # Ray gives its workers the lowest priority; on a busy machine they would never finish.
    path = write_spoilt(root / "control", COUNT_EXAMPLES + FULL_DISK)
    variables = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0",
           "PYTHONPATH": path}  # fmt: skip
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(root, free.getsockname()[1])
    server.start()
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    environment = Environment(server, cluster, root / "control")
    try:
        environment.mend()
        yield environment
    finally:
        cluster.shutdown()
        server.kill()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def write_files(root: Path) -> None:
    """Write toy tasks to ``data/`` and the toy model to ``model/``; a round can change them."""
    words: set[str] = set()
    source = ToySource(0)
    for toy, name in IN_FILES.items():
        folder = root / "data" / "pairs" / name
        folder.mkdir(parents=True)
        for language in ("qaa", "qab"):
            for split, num_examples in _SIZES.items():
                examples = source.read(task_named(toy), language, split)[:num_examples]
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
