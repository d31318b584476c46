"""The fault types: processes killed from outside, and code that fails inside a trial."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from tests.sweeps.conftest import Place
from xlt_ray.home import Home
from xlt_ray.ledger import load_ledger

if TYPE_CHECKING:
    from tests.chaos.environment import Environment

PATIENCE_S = 400
FREEZING = ("failures.hang_after=40",)
TWO_WORKERS = (
    "resources.workers=2",
    "resources.zero_stage=2",
    "search.concurrent=1",
    "search.trials=2",
)
ON_FILES = (
    "data={source: files, root: data}",
    "model=./model",
    "intermediate.task=xnli",
    "target.task=pawsx",
    "target.hybrid.ratio=0.0",
    "target.learning_rate={choice: [1.0e-3, 2.0e-3]}",
)


@dataclass(frozen=True)
class RunningSweep:
    """A driver, and the place and environment in which it runs."""

    driver: subprocess.Popen[str]
    start_environment: Environment
    place: Place
    command: tuple[str, ...]
    """The command that started it."""
    freed: list[str] = field(default_factory=list)
    """Stages and progress that `xlt gc` deleted."""
    others: list[tuple[Place, subprocess.Popen[str]]] = field(default_factory=list)
    """Other homes with a sweep of the same name, and their drivers."""


Inject = Callable[[RunningSweep], bool]
"""Injects the fault; returns False if there was nothing to inject it into."""


@dataclass(frozen=True)
class Fault:
    """One fault type; every round draws the moment at which it is injected."""

    name: str
    inject: Inject | None = None
    """Inject from outside, while the sweep runs."""
    code: str = ""
    """Or statements that a trial runs before some step; they can use ``engine``."""
    cause: str = ""
    """The cause that the sweep must report."""
    last_words: str = ""
    """The end of a line that a driver must print, usually its last line."""
    is_at_note: bool = False
    """Or kill the driver between the commit of a stage and its note in the ledger."""
    runs_gc: bool = False
    """Whether `xlt gc --yes` runs before the sweep continues."""
    is_final: bool = False
    """Whether the trial fails, so that ``resume --failed`` must run it again."""
    is_exact: bool = True
    """Whether scores must be bit-identical; smaller passes change the order of summation."""
    own_ray: bool = False
    """Use a Ray that the driver starts; otherwise two nodes of a running cluster."""
    own_mlflow: bool = False
    """Track in the home's database; otherwise on a server."""
    overrides: tuple[str, ...] = ()


def _find_processes(title: str) -> list[psutil.Process]:
    """Descendants of this process with ``title`` in their command.

    Ray rewrites the title of a process at every call, and a read may see half of it; hence several
    tries.
    """
    for _ in range(40):
        processes = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if title in " ".join(child.cmdline()):
                    processes.append(child)
        if processes:
            return processes
        time.sleep(0.05)
    return []


def _send(signal_number: int, *titles: str) -> Inject:
    """Send a signal to the first process that has one of the titles."""

    def send(_: RunningSweep) -> bool:
        for process in [match for title in titles for match in _find_processes(title)][:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
                return True
        return False

    return send


def _kill_driver(running: RunningSweep) -> bool:
    running.driver.kill()
    return True


def _change_data(running: RunningSweep) -> bool:
    """Change a sentence between two starts; after the refusal, change it back."""
    place = running.place
    deadline = time.monotonic() + PATIENCE_S
    # Before a trial has scores, changed data are accepted.
    while running.driver.poll() is None and not _has_scores(place):
        assert time.monotonic() < deadline, place.log()
        time.sleep(0.2)
    if running.driver.poll() is not None:
        return False
    running.driver.kill()
    running.driver.wait()
    file = place.root / "data" / "pairs" / "pawsx" / "qaa.dev.tsv"
    original, log_length = file.read_text(encoding="utf-8"), len(place.log())
    lines = original.splitlines(keepends=True)
    name, first, second, label = lines[1].split("\t")
    lines[1] = "\t".join((name, second, first, label))
    file.write_text("".join(lines), encoding="utf-8")
    code = place.start(*running.command).wait(PATIENCE_S)
    file.write_text(original, encoding="utf-8")
    log = place.log()[log_length:]
    return code == 2 and "pawsx qaa dev: " in log and "--accept-changes" in log


def _has_scores(place: Place) -> bool:
    ledger = load_ledger(Home(place.home), place.root.name)
    return any(trial.curve for trial in ledger.trials())


def _end_driver(running: RunningSweep) -> bool:
    running.driver.terminate()
    return True


def _kill_node(running: RunningSweep) -> bool:
    running.start_environment.lose_node()
    return True


def _kill_below(name: str) -> Inject:
    """Kill the processes of this name below the driver (of the Ray that it started)."""

    def kill(running: RunningSweep) -> bool:
        descendants = psutil.Process(running.driver.pid).children(recursive=True)
        processes = [process for process in descendants if process.name() == name]
        for process in processes:
            process.kill()
        return bool(processes)

    return kill


def _fill_disk(running: RunningSweep) -> bool:
    """False if the driver ends without another write to the ledger."""
    full = running.start_environment.fill_disk()
    while full.exists() and running.driver.poll() is None:
        time.sleep(0.05)
    is_met = not full.exists()
    # The next round has space.
    full.unlink(missing_ok=True)
    return is_met


def _kill_server(running: RunningSweep) -> bool:
    running.start_environment.server.kill()
    time.sleep(3)
    running.start_environment.server.start()
    return True


def run_gc(running: RunningSweep) -> None:
    """Run `xlt gc --yes`, which may free no stage and no progress: the sweep needs them all."""
    result = running.place.xlt("gc", "--yes", "--json")
    assert result.returncode == 0, result.stderr
    running.freed.extend(
        entry["place"]
        for store in json.loads(result.stdout)
        for entry in store["frees"]
        if entry["is_freed"] and entry["what"] in ("stage", "progress")
    )


def _run_gc_repeatedly(running: RunningSweep) -> bool:
    for _ in range(4):
        run_gc(running)
    return True


def _damage_database(running: RunningSweep) -> bool:
    running.driver.kill()
    running.driver.wait()
    database = running.place.home / "mlflow" / "mlflow.db"
    existed = database.exists()
    database.write_bytes(os.urandom(2**16))
    return existed


def _start_other_home(running: RunningSweep) -> bool:
    """Run the same sweep from another home, tracked by the same server."""
    other = Place(running.place.root / "beside", running.place.variables)
    other.root.mkdir()
    other.sweep.write_text(running.place.sweep.read_text())
    running.others.append((other, other.start(*running.command)))
    return True


_TRIAL = "ray::ResourceTrainable"

FAULTS = (
    Fault("driver killed", _kill_driver),
    Fault("data changed between two starts", _change_data, overrides=ON_FILES),
    Fault("trial process killed", _send(signal.SIGKILL, _TRIAL)),
    Fault("one of two workers killed", _send(signal.SIGKILL, "ray::Worker", _TRIAL),
         overrides=TWO_WORKERS),
    Fault("one of two nodes killed", _kill_node),
    Fault("the driver's raylet killed", _kill_below("raylet"), own_ray=True),
    Fault("the driver's GCS server killed", _kill_below("gcs_server"), own_ray=True,
         last_words="the same command goes on"),
    Fault("disk full in the middle of an append", _fill_disk,
         last_words="goes on where it stopped"),
    Fault("MLflow server killed", _kill_server),
    Fault("damaged MLflow database", _damage_database, own_mlflow=True,
         last_words="made anew from ledgers and stages"),
    Fault("two homes on one server", _start_other_home),
    Fault("SIGTERM to the driver", _end_driver),
    Fault("trial process frozen", _send(signal.SIGSTOP, _TRIAL), overrides=FREEZING),
    Fault("one of two workers frozen", _send(signal.SIGSTOP, "ray::Worker", _TRIAL),
         overrides=(*TWO_WORKERS, *FREEZING)),
    Fault("gc beside a running sweep", _run_gc_repeatedly),
    Fault("killed between commit and note", is_at_note=True, runs_gc=True),
    Fault("GPU memory full", cause="oom", is_exact=False, own_ray=True,
         code="import torch; raise torch.OutOfMemoryError('CUDA out of memory')"),
    Fault("process lost", cause="lost", own_ray=True,
         code="import os; os.kill(os.getpid(), 9)"),
    Fault("GPU broken", cause="device", own_ray=True,
         code="raise RuntimeError('CUDA error: uncorrectable ECC error encountered')"),
    Fault("preempted", cause="preempted", own_ray=True,
         code="import os; os.kill(os.getpid(), 15)"),
    Fault("loss not a number", cause="nan", is_final=True, own_ray=True,
         code="next(engine.network.parameters()).data.fill_(float('nan'))"),
    Fault("data broken", cause="data", is_final=True, own_ray=True,
         code="from xlt_ray.errors import DataError; raise DataError('line 7 has two columns')"),
    Fault("disk full", cause="disk", is_final=True, own_ray=True,
         code="import errno; raise OSError(errno.ENOSPC, 'No space left on device')"),
    Fault("storage away", cause="storage", own_ray=True,
         code="raise ConnectionResetError(104, 'Connection reset by peer')"),
    Fault("trial hangs", cause="timeout", own_ray=True, overrides=FREEZING,
         code="import ctypes; ctypes.PyDLL(None).pause()"),
    Fault("bug", cause="bug", is_final=True, own_ray=True,
         code="raise KeyError('labels')"),
)  # fmt: skip
"""Kills first, then one fault of every cause."""
