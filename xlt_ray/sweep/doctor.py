"""``xlt doctor``: versions, accelerator, cluster, home, ledger, MLflow and hub, as they are now.

It starts nothing and leaves nothing behind: a test file in the home is removed again.
"""

from __future__ import annotations

import os
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError, SpecError, TrackingError, XltError
from xlt_ray.home import Home
from xlt_ray.ledger.access import ask_database
from xlt_ray.redact import redacted
from xlt_ray.store.storage import Storage
from xlt_ray.sweep.capacity import cluster_capacity
from xlt_ray.sweep.ray_connection import connect
from xlt_ray.sweep.runner import open_store
from xlt_ray.tracking.client import check_mlflow

TESTED_PYTHON = "3.11"
TESTED = {
    "torch": "2.13.0",
    "deepspeed": "0.19.8",
    "ray": "2.60.0",
    "optuna": "5.0.0",
    "mlflow": "3.17.2",
    "transformers": "5.23.0",
}
"""As in constraints.txt."""
SCARCE_BYTES = 10 * 2**30
"""With less free space, a disk is likely to fill up during a sweep."""
PATIENCE_S = 3.0

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """``wrong``: no sweep can run like this. ``note``: one can, with a risk."""

    name: str
    state: State
    found: str
    remedy: str = ""


def findings(home: Home, sweep: SweepSpec | None = None) -> Iterator[Finding]:
    """Check everything, one after the other; findings have no passwords.

    Args:
        sweep: its own places are checked instead of those of the home.
    """
    for name, state, found, remedy in map(astuple, _findings(home, sweep)):
        yield Finding(name, state, redacted(found), redacted(remedy))


def _findings(home: Home, sweep: SweepSpec | None) -> Iterator[Finding]:
    python = platform.python_version()
    yield _version("python", python, TESTED_PYTHON, python.startswith(f"{TESTED_PYTHON}."))
    for package, tested in TESTED.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            remedy = "pip install --constraint constraints.txt ."
            yield Finding(package, "wrong", "is not installed", remedy)
        else:
            # A build for one kind of accelerator has a word of its own: 2.13.0+cu130.
            yield _version(package, installed, tested, installed.partition("+")[0] == tested)
    yield _accelerator()
    yield _cluster()
    yield from _home(home)
    places = None if sweep is None else sweep.settings.places
    if sweep is not None and sweep.settings.places.store is not None:
        yield _store(sweep, home)
    yield from _ledgers(home, None if places is None else places.ledger)
    yield _mlflow(home, None if places is None else places.tracking)
    yield _hub()


def _version(name: str, installed: str, tested: str, is_tested: bool) -> Finding:
    if is_tested:
        return Finding(name, "ok", installed)
    return Finding(name, "note", installed, f"tested with {tested}")


def _accelerator() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("accelerator", "wrong", f"torch cannot be loaded ({error})")
    if not torch.cuda.is_available():
        return Finding("accelerator", "ok", f"none; {len(os.sched_getaffinity(0))} CPUs")
    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    if not torch.distributed.is_nccl_available():
        remedy = "install a build of torch with NCCL"
        return Finding("accelerator", "wrong", f"{names}; torch has no NCCL", remedy)
    return Finding("accelerator", "ok", names)


def _cluster() -> Finding:
    if not os.environ.get("RAY_ADDRESS"):
        return Finding("cluster", "ok", "no cluster; `xlt run` starts Ray on this machine")
    try:
        connect()
        nodes = cluster_capacity().nodes
    except XltError as error:
        return Finding("cluster", "wrong", str(error))
    amounts = {name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")}
    summary = f"{len(nodes)} nodes, {amounts['CPU']:g} CPUs, {amounts['GPU']:g} GPUs"
    return Finding("cluster", "ok" if amounts["CPU"] else "note", summary)


def _home(home: Home) -> Iterator[Finding]:
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        is_exclusive = Storage(home.root).is_exclusive()
    except OSError as error:
        yield Finding(
            "home",
            "wrong",
            f"{home.root}: cannot be written ({error.strerror})",
            "set XLT_HOME to a writable folder that all nodes share",
        )
        return
    kind = _file_system(home.root)
    if is_exclusive:
        yield Finding("home", "ok", f"{home.root} ({kind})")
    else:
        yield Finding(
            "home",
            "wrong",
            f"{home.root} ({kind}): two processes may create one file",
            "leases need a file system on which only one can",
        )
    free = shutil.disk_usage(home.root).free
    space = f"{free / 2**30:.1f} GiB free"
    if free < SCARCE_BYTES:
        yield Finding("disk", "note", space, "free some space, or set store.quota")
    else:
        yield Finding("disk", "ok", space)


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on: ext4, nfs4, tmpfs."""
    mounted = [
        partition
        for partition in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(partition.mountpoint) and partition.fstype
    ]
    # If two file systems are mounted in one place, the later one is visible.
    return max(mounted, key=lambda disk: len(disk.mountpoint)).fstype if mounted else "unknown"


def _store(sweep: SweepSpec, home: Home) -> Finding:
    try:
        open_store(sweep, home)
    except SpecError as error:
        return Finding("store", "wrong", error.fields["problem"], error.fields["remedy"])
    return Finding("store", "ok", str(sweep.settings.places.store))


def _ledgers(home: Home, url: str | None) -> Iterator[Finding]:
    """The database of this sweep, or those of all sweeps in the home."""
    files = home.ledgers.glob("*.url") if os.path.isdir(home.ledgers) else ()
    urls = [url] if url is not None else sorted({file.read_text("utf-8").strip() for file in files})
    if not urls:
        yield Finding("ledger", "ok", f"files in {home.ledgers}")
    for address in urls:
        try:
            yield Finding("ledger", "ok", f"{address} ({ask_database(address)})")
        except LedgerError as error:
            remedy = "look at places.ledger, at the server, and at PGPASSWORD"
            yield Finding("ledger", "wrong", str(error), remedy)


def _mlflow(home: Home, uri: str | None) -> Finding:
    try:
        return Finding("tracking", "ok", check_mlflow(home, uri))
    except (TrackingError, OSError) as error:
        remedy = "look at places.tracking and at MLFLOW_TRACKING_USERNAME and _PASSWORD"
        return Finding("tracking", "wrong", str(error), remedy)


def _hub() -> Finding:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return Finding("hub", "ok", f"offline, by HF_HUB_OFFLINE; what is in {HF_HUB_CACHE}")
    try:
        # The address is the library's, or the user's HF_ENDPOINT.
        urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Finding("hub", "note", f"{ENDPOINT} answers {error.code}", _CACHED)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("hub", "note", f"{ENDPOINT} does not answer ({reason})", _CACHED)
    return Finding("hub", "ok", f"{ENDPOINT} answers")


_CACHED = "models and data are read from the cache; HF_HUB_OFFLINE=1 avoids the delay"
