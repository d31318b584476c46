"""The points of every item of an evaluation, in a file beside the record.

``items.safetensors`` of an evaluation stage, version 1. Its metadata has one entry, ``items``:

    {"version": 1, "evaluations": [{"role", "task", "language", "split", "ids": "ids.0",
     "metrics": {METRIC: {"points": "3.accuracy.points", "out_of": null}}}, ...]}

with names of tensors of the file:

- ``ids.N``, (n,) uint64: of every item the first eight bytes (big-endian) of the BLAKE2b digest of
  its example's id in UTF-8. The same id in two evaluations is the same example, in two languages,
  too. Evaluations of the same items name the same tensor.
- ``N.METRIC.points``, (n,), uint8, uint16, uint32 or float32: what the item earned.
- ``N.METRIC.out_of``, (n,), the same types: what it could have earned; null where that is 1 of all.

A score is the sum of its points over the sum of what they are out of, exactly where those are whole
numbers, else to the digits of float32. :mod:`xlt_ray.data.item_scores` says what the points of each
metric are and why they reveal no label. The file holds no texts, labels or predictions.

Older stages have no such file, and are read as having no items.
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
    """Metric -> (n,) points, and what they are out of."""


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
        names = {name: getattr(items, name) for name in ("role", "task", "language", "split")}
        entries.append({**names, "ids": table, "metrics": metrics})
    # One entry alone: several would stand in no fixed order.
    metadata = {"items": json.dumps({"version": VERSION, "evaluations": entries})}
    save_file(tensors, folder / ITEMS, metadata=metadata)


def read_items(store: StageStore, record: StageRecord) -> tuple[Items, ...]:
    """The items of a committed evaluation; none where none were kept.

    Raises:
        DamagedStage: the file is missing, or is not what the record says.
        StoreError: it was written by a later version of the format.
    """
    entry = record.files.get(ITEMS)
    if entry is None:
        return ()
    place = f"stages/{record.key}/{ITEMS}"
    try:
        content = store.storage.read(place)
    except FileNotFoundError:
        raise DamagedStage("a file is missing", key=record.key, place=place) from None
    if (len(content), hashlib.sha256(content).hexdigest()) != (entry.num_bytes, entry.sha256):
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
    return _parsed(content, listed["evaluations"])


def _parsed(content: bytes, evaluations: Sequence[Mapping[str, Any]]) -> tuple[Items, ...]:
    import numpy as np
    from safetensors.numpy import load

    tensors = load(content)
    return tuple(
        Items(
            role=evaluation["role"],
            task=evaluation["task"],
            language=evaluation["language"],
            split=evaluation["split"],
            ids=tensors[evaluation["ids"]],
            parts={
                metric: (
                    tensors[names["points"]].astype(np.float64),
                    tensors[names["out_of"]].astype(np.float64)
                    if names["out_of"]
                    else np.ones(len(tensors[evaluation["ids"]])),
                )
                for metric, names in evaluation["metrics"].items()
            },
        )
        for evaluation in evaluations
    )


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
