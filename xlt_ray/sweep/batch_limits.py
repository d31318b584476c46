"""How many sequences fit into memory in one pass, as attempts that ran out of memory have learnt.

A JSON file of the home has the limits by model and
:attr:`~xlt_ray.training.runtime.Runtime.memory_profile`; the user may delete it at any time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xlt_ray.store.lease import waiting_for
from xlt_ray.store.stage import Stage
from xlt_ray.store.storage import Storage
from xlt_ray.sweep.tasks import TrialTask
from xlt_ray.sweep.workers import runtime_of


@dataclass(frozen=True)
class SmallerPass:
    """What a stage that ran out of memory is tried again with."""

    max_length: int
    limit: int
    """Sequences of this length in one pass."""
    words: str
    """The change, for the user."""


def smaller_pass(task: TrialTask, stage: Stage) -> SmallerPass | None:
    """Half the pass size of a stage; None if it is 1."""
    settings = stage.settings
    length, pass_size = settings["max_length"], runtime_of(task).pass_size(settings)
    if pass_size == 1:
        return None
    smaller = {**task.batch_limits, length: pass_size // 2}
    halved = runtime_of(replace(task, batch_limits=smaller)).pass_size(settings)
    words = f"with {halved} instead of {pass_size} sequences a pass"
    return SmallerPass(length, pass_size // 2, words)


def with_batch_limits(task: TrialTask, smaller: SmallerPass | None = None) -> TrialTask:
    """A task with the limits that it and others of the home have learnt for its model.

    Args:
        smaller: what its last attempt has learnt, which is saved for the others.
    """
    key = Path(task.batch_limits_file), task.trial.model.name, runtime_of(task).memory_profile
    limits = dict(task.batch_limits)
    if smaller is not None:
        limits[smaller.max_length] = smaller.limit
        # If it cannot be written, this trial still uses it.
        with contextlib.suppress(OSError):
            save_batch_limit(*key, smaller.max_length, smaller.limit)
    for length, limit in read_batch_limits(*key).items():
        limits[length] = min(limit, limits.get(length, limit))
    return replace(task, batch_limits=limits)


def read_batch_limits(file: Path, model: str, memory_profile: str) -> dict[int, int]:
    """The limits of the file for a model, by length; empty if it has none or cannot be read."""
    lengths = _read_limits(file).get(model, {}).get(memory_profile, {})
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
        known = _read_limits(file)
        lengths = known.setdefault(model, {}).setdefault(memory_profile, {})
        lengths[str(max_length)] = min(number, lengths.get(str(max_length), number))
        content = json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False)
        storage.write(file.name, content.encode())


def _read_limits(file: Path) -> dict[str, dict[str, dict[str, int]]]:
    """The content of the file; empty if it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}  # type: ignore[return-value]
