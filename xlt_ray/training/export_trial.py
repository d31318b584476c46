"""Export a trial's network from the stage store into a folder of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from xlt_ray.config.export_metadata import Exported
from xlt_ray.errors import SpecError, StoreError
from xlt_ray.files import atomic_folder
from xlt_ray.modeling.exported_network import show_no_bars, write_exported
from xlt_ray.store.store import StageStore


@contextlib.contextmanager
def export_folder(folder: Path) -> Iterator[Path]:
    """A new hidden folder beside ``folder`` that takes its name at the end, or is deleted.

    What killed exports left beside it is deleted first.

    Raises:
        SpecError: ``folder`` exists and is not empty, or cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(
            "exists" + (" and is not empty" if folder.is_dir() else ""),
            file=str(folder),
            remedy="name a new folder, or move this one",
        )
    try:
        with atomic_folder(folder) as aside:
            yield aside
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpecError(f"cannot be written ({reason})", file=str(folder)) from error


def write_network(
    key: str,
    store: StageStore,
    metadata: Exported,
    folder: Path,
    *,
    trust_remote_code: bool = False,
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
        store.folder(key), record.files, metadata, folder, trust_remote_code=trust_remote_code
    )
