"""A trial's network out of the stage store, into a folder that stands for itself."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from xlt_ray.config.export_metadata import Exported
from xlt_ray.errors import SpecError, StoreError
from xlt_ray.modeling.exported_network import show_no_bars, write_exported
from xlt_ray.store.lease import TTL, find_holder, this_process
from xlt_ray.store.storage import Storage
from xlt_ray.store.store import StageStore

EXPORTING = "xlt-export"
"""In the names of unfinished folders; and in each, a file of this name that says who writes it."""
LONGEST_S = 86400.0
"""So long an export on another machine may take; on this one its process is looked at."""


@contextlib.contextmanager
def whole_or_nothing(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` that takes its name at the end; gone where that is not met.

    What killed processes have left beside it in this way is removed.

    Raises:
        SpecError: there is something under that name already, or it cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(
            "is there already" + (" and not empty" if folder.is_dir() else ""),
            file=str(folder),
            remedy="name a new folder, or move this one away",
        )
    aside = folder.with_name(f".{folder.name}.{EXPORTING}-{uuid.uuid4().hex[:8]}")
    try:
        try:
            for left in folder.parent.glob(f".*.{EXPORTING}-*"):
                with contextlib.suppress(FileNotFoundError):
                    if _is_left_over(left):
                        shutil.rmtree(left)
            aside.mkdir(parents=True)
            writer = asdict(this_process(LONGEST_S, "exports a model"))
            Storage(aside).write(EXPORTING, json.dumps(writer).encode())
            yield aside
            (aside / EXPORTING).unlink()
            aside.rename(folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SpecError(f"cannot be written ({reason})", file=str(folder)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_left_over(aside: Path) -> bool:
    """Whether nobody writes to an unfinished folder any more."""
    writer = find_holder(Storage(aside), EXPORTING)
    if writer is None:
        # At its begin and its end, for a moment.
        return time.time() - aside.stat().st_mtime > TTL
    return not writer.is_alive


def write_network(
    key: str, store: StageStore, told: Exported, folder: Path, *, trust_remote_code: bool = False
) -> Exported:
    """Write the network of the committed target stage ``key`` into an empty folder.

    Its files are compared with their digests before. Returns what ``xlt.json`` says.

    Raises:
        StoreError: the stage is not in the store, or damaged.
        ModelError: fusion, labels or width are not those of the weights.
    """
    show_no_bars()
    record = store.verify(key)
    if record is None:
        raise StoreError("is not in the store", key=key)
    return write_exported(
        store.folder(key), record.files, told, folder, trust_remote_code=trust_remote_code
    )
