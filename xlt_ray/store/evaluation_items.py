"""The points of every item of an evaluation, in a file beside the record.

``items.safetensors`` of an evaluation stage, version 1. Its metadata has one entry, ``items``:

    {"version": 1, "evaluations": [{"role", "task", "language", "split", "ids": "ids.0",
     "metrics": {METRIC: {"points": "3.accuracy.points", "out_of": null}}}, ...]}

with names of tensors of the file:

- ``ids.N``, (n,) uint64: the first eight bytes (big-endian) of the BLAKE2b digest of each example's
  id in UTF-8. The same id in two evaluations means the same example, also in two languages.
  Evaluations of the same items name the same tensor.
- ``N.METRIC.points``, (n,), uint8, uint16, uint32 or float32: the points of each item.
- ``N.METRIC.out_of``, (n,), the same types: its possible points; null if they are 1 for all items.

A score is the sum of the points over the sum of the possible points: exactly if they are whole
numbers, else to the digits of float32. :mod:`xlt_ray.data.item_scores` says what the points of each
metric are and why they reveal no label. The file holds no texts, labels or predictions. Older
stages have no such file, and are read as having no items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import DamagedStage, StoreError
from xlt_ray.store.record import Role, StageRecord

if TYPE_CHECKING:
    import numpy as np

    from xlt_ray.store.store import StageStore

ITEMS = "items.safetensors"
VERSION = 1
_NAMES = ("role", "task", "language", "split")


@dataclass(frozen=True)
class Items:
    """The items of one evaluation: a task in a language, or a pair of languages, on a split."""

    role: Role
    task: str
    language: str
    split: str
    ids: np.ndarray
    """(n,) uint64."""
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Metric -> (n,) points and possible points."""


def item_ids(names: Iterable[str]) -> np.ndarray:
    """(n,) uint64: ids of examples as they are kept."""
    import numpy as np

    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def write_items(evaluations: Sequence[Items], folder: Path) -> None:
    """Write ``items.safetensors``; the same items give the same bytes."""
    from safetensors.numpy import save_file

    tensors: dict[str, np.ndarray] = {}
    tables: dict[bytes, str] = {}
    entries = []
    for number, items in enumerate(evaluations):
        table = tables.setdefault(items.ids.tobytes(), f"ids.{len(tables)}")
        tensors[table] = items.ids
        metrics: dict[str, Any] = {}
        for metric, (points, out_of) in items.parts.items():
            name = f"{number}.{metric}"
            tensors[f"{name}.points"] = _small(points)
            is_one = bool((out_of == 1).all())
            if not is_one:
                tensors[f"{name}.out_of"] = _small(out_of)
            metrics[metric] = {
                "points": f"{name}.points",
                "out_of": None if is_one else f"{name}.out_of",
            }
        names = {name: getattr(items, name) for name in _NAMES}
        entries.append({**names, "ids": table, "metrics": metrics})
    # A single entry, since the order of several is not fixed.
    metadata = {"items": json.dumps({"version": VERSION, "evaluations": entries})}
    save_file(tensors, folder / ITEMS, metadata=metadata)


def read_items(store: StageStore, record: StageRecord) -> tuple[Items, ...]:
    """The items of a committed evaluation; empty if none were kept.

    Raises:
        DamagedStage: the file is missing, or is not what the record says.
        StoreError: it was written by a later version of the format.
    """
    import numpy as np
    from safetensors.numpy import load

    file = record.files.get(ITEMS)
    if file is None:
        return ()
    place = f"stages/{record.key}/{ITEMS}"
    try:
        content = store.storage.read(place)
    except FileNotFoundError:
        raise DamagedStage("a file is missing", key=record.key, place=place) from None
    if (len(content), hashlib.sha256(content).hexdigest()) != (file.num_bytes, file.sha256):
        raise DamagedStage("a file was altered or cut short", key=record.key, place=place)
    # The library reads metadata of files alone: eight bytes of length, then JSON.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    listed = json.loads(header["__metadata__"]["items"])
    if listed["version"] != VERSION:
        raise StoreError(
            f"its items are of version {listed['version']}, this xlt-ray reads {VERSION}; "
            "read them with the one that made them",
            key=record.key,
            place=place,
        )
    tensors = load(content)
    evaluations = []
    for entry in listed["evaluations"]:
        ids = tensors[entry["ids"]]
        parts = {
            metric: (
                tensors[names["points"]].astype(np.float64),
                tensors[names["out_of"]].astype(np.float64)
                if names["out_of"]
                else np.ones(len(ids)),
            )
            for metric, names in entry["metrics"].items()
        }
        evaluations.append(Items(**{name: entry[name] for name in _NAMES}, ids=ids, parts=parts))
    return tuple(evaluations)


def _small(values: np.ndarray) -> np.ndarray:
    """The smallest type that holds whole numbers as they are; float32 for all others."""
    import numpy as np

    if len(values) == 0:
        return values.astype(np.uint8)
    if (values >= 0).all() and (values == np.round(values)).all():
        for kind in (np.uint8, np.uint16, np.uint32):
            if values.max() <= np.iinfo(kind).max:
                return values.astype(kind)
    return values.astype(np.float32)
