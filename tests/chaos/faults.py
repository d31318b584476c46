"""What can happen to a running sweep: processes killed from outside, faults met inside a trial."""

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
    from tests.chaos.environment import Grounds

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
class Scene:
    """A running sweep, and where it runs."""

    driver: subprocess.Popen[str]
    grounds: Grounds
    place: Place
    command: tuple[str, ...]
    """By which it was started."""
    freed: list[str] = field(default_factory=list)
    """What `xlt gc` freed of stages and of progress."""
    beside: list[tuple[Place, subprocess.Popen[str]]] = field(default_factory=list)
    """Other homes with a sweep of this name, and their drivers."""


Strike = Callable[[Scene], bool]
"""Whether there was anything to hit."""


@dataclass(frozen=True)
class Blow:
    """One kind of blow, which falls at a moment that is drawn anew for every round."""

    name: str
    strike: Strike | None = None
    """From outside, at a moment of the sweep's work."""
    fault: str = ""
    """Or met inside a trial, before some step: statements that know ``engine``."""
    cause: str = ""
    """What the sweep must call a fault."""
    last_words: str = ""
    """How a line must end that a driver prints, in most cases its last one."""
    is_at_note: bool = False
    """Or the driver dies between the commit of a stage and its note in the ledger."""
    is_freed_after: bool = False
    """Whether `xlt gc --yes` is given before the sweep goes on."""
    is_final: bool = False
    """Whether the fault fails its trial, so that ``resume --failed`` has to run it again."""
    is_exact: bool = True
    """Whether scores come out to the last bit: not after smaller passes were summed."""
    own_ray: bool = False
    """On a Ray that the driver starts itself; else on two nodes of a running cluster."""
    own_mlflow: bool = False
    """In the home's own database; else on a server."""
    overrides: tuple[str, ...] = ()


def _with(title: str) -> list[psutil.Process]:
    """Processes that this one has started, directly or not, with ``title`` in their command.

    Ray writes a process's title anew at every call; it may be caught half written, so several
    looks are taken.
    """
    for _ in range(40):
        found = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if title in " ".join(child.cmdline()):
                    found.append(child)
        if found:
            return found
        time.sleep(0.05)
    return []


def _send(number: int, *titles: str) -> Strike:
    """A signal to the first process that has one of the titles; to none where there is none."""

    def send(_: Scene) -> bool:
        for victim in [one for title in titles for one in _with(title)][:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(number)
                return True
        return False

    return send


def _kill_driver(scene: Scene) -> bool:
    scene.driver.kill()
    return True


def _change_data(scene: Scene) -> bool:
    """Between two starts a sentence becomes another one, and comes back after a refusal."""
    place = scene.place
    deadline = time.monotonic() + PATIENCE_S
    # Before a trial has scores, changed data are no matter: it is made with what is there.
    while scene.driver.poll() is None and not _has_scores(place):
        assert time.monotonic() < deadline, place.log()
        time.sleep(0.2)
    if scene.driver.poll() is not None:
        return False
    scene.driver.kill()
    scene.driver.wait()
    file = place.root / "data" / "pairs" / "pawsx" / "qaa.dev.tsv"
    kept, told = file.read_text(encoding="utf-8"), len(place.log())
    lines = kept.splitlines(keepends=True)
    name, first, second, label = lines[1].split("\t")
    lines[1] = "\t".join((name, second, first, label))
    file.write_text("".join(lines), encoding="utf-8")
    code = place.start(*scene.command).wait(PATIENCE_S)
    file.write_text(kept, encoding="utf-8")
    said = place.log()[told:]
    return code == 2 and "pawsx qaa dev: " in said and "--accept-changes" in said


def _has_scores(place: Place) -> bool:
    ledger = load_ledger(Home(place.home), place.root.name)
    return any(trial.curve for trial in ledger.trials())


def _end_driver(scene: Scene) -> bool:
    scene.driver.terminate()
    return True


def _kill_node(scene: Scene) -> bool:
    scene.grounds.lose_node()
    return True


def _kill_below(name: str) -> Strike:
    """Kill a process of the Ray that the driver has started."""

    def kill(scene: Scene) -> bool:
        below = psutil.Process(scene.driver.pid).children(recursive=True)
        victims = [process for process in below if process.name() == name]
        for process in victims:
            process.kill()
        return bool(victims)

    return kill


def _fill_disk(scene: Scene) -> bool:
    scene.grounds.fill_disk()
    return True


def _kill_server(scene: Scene) -> bool:
    scene.grounds.server.kill()
    time.sleep(3)
    scene.grounds.server.start()
    return True


def free(scene: Scene) -> None:
    """`xlt gc --yes`: every stage and all progress of a small sweep is one that it needs."""
    done = scene.place.xlt("gc", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    scene.freed.extend(
        one["place"]
        for store in json.loads(done.stdout)
        for one in store["frees"]
        if one["is_freed"] and one["what"] in ("stage", "progress")
    )


def _free_meanwhile(scene: Scene) -> bool:
    for _ in range(4):
        free(scene)
    return True


def _damage_database(scene: Scene) -> bool:
    scene.driver.kill()
    scene.driver.wait()
    database = scene.place.home / "mlflow" / "mlflow.db"
    was_there = database.exists()
    database.write_bytes(os.urandom(2**16))
    return was_there


def _start_beside(scene: Scene) -> bool:
    """The same sweep from another home, tracked by the same server."""
    other = Place(scene.place.root / "beside", scene.place.variables)
    other.root.mkdir()
    other.sweep.write_text(scene.place.sweep.read_text())
    scene.beside.append((other, other.start(*scene.command)))
    return True


_TRIAL = "ray::ResourceTrainable"

BLOWS = (
    Blow("driver killed", _kill_driver),
    Blow("data changed between two starts", _change_data, overrides=ON_FILES),
    Blow("trial process killed", _send(signal.SIGKILL, _TRIAL)),
    Blow("one of two workers killed", _send(signal.SIGKILL, "ray::Worker", _TRIAL),
         overrides=TWO_WORKERS),
    Blow("one of two nodes killed", _kill_node),
    Blow("the driver's raylet killed", _kill_below("raylet"), own_ray=True),
    Blow("the driver's GCS server killed", _kill_below("gcs_server"), own_ray=True,
         last_words="the same command goes on"),
    Blow("disk full in the middle of an append", _fill_disk,
         last_words="goes on where it stopped"),
    Blow("MLflow server killed", _kill_server),
    Blow("damaged MLflow database", _damage_database, own_mlflow=True,
         last_words="made anew from ledgers and stages"),
    Blow("two homes on one server", _start_beside),
    Blow("SIGTERM to the driver", _end_driver),
    Blow("trial process frozen", _send(signal.SIGSTOP, _TRIAL), overrides=FREEZING),
    Blow("one of two workers frozen", _send(signal.SIGSTOP, "ray::Worker", _TRIAL),
         overrides=(*TWO_WORKERS, *FREEZING)),
    Blow("gc beside a running sweep", _free_meanwhile),
    Blow("killed between commit and note", is_at_note=True, is_freed_after=True),
    Blow("GPU memory full", cause="oom", is_exact=False, own_ray=True,
         fault="import torch; raise torch.OutOfMemoryError('CUDA out of memory')"),
    Blow("process lost", cause="lost", own_ray=True,
         fault="import os; os.kill(os.getpid(), 9)"),
    Blow("GPU broken", cause="device", own_ray=True,
         fault="raise RuntimeError('CUDA error: uncorrectable ECC error encountered')"),
    Blow("preempted", cause="preempted", own_ray=True,
         fault="import os; os.kill(os.getpid(), 15)"),
    Blow("loss not a number", cause="nan", is_final=True, own_ray=True,
         fault="next(engine.network.parameters()).data.fill_(float('nan'))"),
    Blow("data broken", cause="data", is_final=True, own_ray=True,
         fault="from xlt_ray.errors import DataError; raise DataError('line 7 has two columns')"),
    Blow("disk full", cause="disk", is_final=True, own_ray=True,
         fault="import errno; raise OSError(errno.ENOSPC, 'No space left on device')"),
    Blow("storage away", cause="storage", own_ray=True,
         fault="raise ConnectionResetError(104, 'Connection reset by peer')"),
    Blow("trial hangs", cause="timeout", own_ray=True, overrides=FREEZING,
         fault="import ctypes; ctypes.PyDLL(None).pause()"),
    Blow("bug", cause="bug", is_final=True, own_ray=True,
         fault="raise KeyError('labels')"),
)  # fmt: skip
"""Kills first, then the classes of failure."""
