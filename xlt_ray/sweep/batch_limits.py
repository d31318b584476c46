"""How many sequences fit into memory at a time, learnt from attempts that did not fit.

One small JSON file in the home: model, footing, length -> sequences in one pass of a worker. Later
trials of a model and length start with what fits on their footing: a quarter of a GPU, or a ZeRO
stage with so many workers, holds another number than a whole GPU does. It may be deleted at any
time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from xlt_ray.store.lease import waiting_for
from xlt_ray.store.storage import Storage


def read_fits(file: Path, model: str, footing: str) -> dict[int, int]:
    """Length -> most sequences in a pass of this model.

    Args:
        footing: as :attr:`xlt_ray.training.runtime.Runtime.memory_profile`.
    """
    lengths = _read(file).get(model, {}).get(footing, {})
    return {int(length): number for length, number in lengths.items()}


def remember_fit(file: Path, model: str, footing: str, max_length: int, number: int) -> None:
    """Note that more than ``number`` sequences did not fit; a smaller number that is there stays.

    Raises:
        OSError: the home cannot be written.
    """
    storage = Storage(file.parent)
    # Trials of several processes learn at the same time.
    with waiting_for(storage, f"leases/{file.stem}.json"):
        known = _read(file)
        lengths = known.setdefault(model, {}).setdefault(footing, {})
        lengths[str(max_length)] = min(number, lengths.get(str(max_length), number))
        content = json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False)
        storage.write(file.name, content.encode())


def _read(file: Path) -> dict[str, dict[str, dict[str, int]]]:
    """The file's content; nothing where it cannot be read or was damaged by hand."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}  # type: ignore[return-value]
