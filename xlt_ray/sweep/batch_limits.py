"""Remembers how many sequences fit into memory in one pass of a worker.

A JSON file of the home maps model, memory profile and length to that number, learnt from attempts
that ran out of memory; later trials start with it. The user may delete the file at any time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from xlt_ray.store.lease import waiting_for
from xlt_ray.store.storage import Storage


def read_batch_limits(file: Path, model: str, memory_profile: str) -> dict[int, int]:
    """Length -> most sequences in a pass of this model.

    Args:
        footing: as :attr:`xlt_ray.training.runtime.Runtime.memory_profile`.
    """
    lengths = _read(file).get(model, {}).get(memory_profile, {})
    return {int(length): number for length, number in lengths.items()}


def save_batch_limit(
    file: Path, model: str, memory_profile: str, max_length: int, number: int
) -> None:
    """Save that more than ``number`` sequences did not fit; a smaller number in the file stays.

    Raises:
        OSError: the home cannot be written.
    """
    storage = Storage(file.parent)
    # Trials in several processes write at the same time.
    with waiting_for(storage, f"leases/{file.stem}.json"):
        known = _read(file)
        lengths = known.setdefault(model, {}).setdefault(memory_profile, {})
        lengths[str(max_length)] = min(number, lengths.get(str(max_length), number))
        content = json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False)
        storage.write(file.name, content.encode())


def _read(file: Path) -> dict[str, dict[str, dict[str, int]]]:
    """The content of the file; empty if it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}  # type: ignore[return-value]
