"""A thread that writes progress while the training goes on.

The training makes one copy of its state in the leader's memory: 12 bytes a weight (the weight and
its two moments), until it is written. The thread hashes it while it writes it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from xlt_ray.config.progress_settings import FIRST_WEIGHTS_PER_S
from xlt_ray.store.lease import Lease
from xlt_ray.store.record import FileEntry
from xlt_ray.store.store import StageStore
from xlt_ray.training.runtime import Runtime

Snapshot = Mapping[str, Mapping[str, Tensor]]
"""Float32 tensors on the CPU by the name of their file and their own; nothing changes them."""


class ProgressWriter:
    """The leader's thread for the progress of one stage; it writes one progress at a time.

    What a write raises is raised again by the next call of :meth:`is_due`, :meth:`write` or
    :meth:`wait`. The cost of a save is the time for which the training waits; on a CPU, which
    the training shares with the thread, it is the CPU time of both.
    """

    def __init__(
        self,
        store: StageStore,
        key: str,
        lease: Lease,
        runtime: Runtime,
        num_weights: int,
    ) -> None:
        self._store, self._key, self._lease = store, key, lease
        self._settings, self._is_on_cpu = runtime.progress, runtime.device == "cpu"
        self.clock = time.thread_time if self._is_on_cpu else time.monotonic
        """Measures what a copy costs the training."""
        self._pool = ThreadPoolExecutor(1, "progress")
        self._writing: Future[float] | None = None
        self._began = time.monotonic()
        self._copy_s = 0.0
        self._cost_s = num_weights / FIRST_WEIGHTS_PER_S

    def is_due(self) -> bool:
        """Whether to save now; a save that falls due during a write is left out."""
        if self._writing is not None and self._writing.done():
            self.wait()
        now = time.monotonic()
        if now - self._began < self._settings.interval(self._cost_s):
            return False
        self._began = now
        return self._writing is None

    def write(
        self, step: int, snapshot: Snapshot, state: Mapping[str, Any], *, copy_s: float
    ) -> None:
        """Begin to write the progress at ``step``, after a write that is under way.

        Args:
            copy_s: what the snapshot cost by :attr:`clock`.
        """
        self.wait()
        self._copy_s = copy_s
        self._writing = self._pool.submit(self._written, step, snapshot, state)

    def wait(self) -> None:
        """Return when everything is written and can be read as progress.

        Raises:
            LeaseLost: another process makes this stage by now.
            OSError: the store cannot be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            written_s = writing.result()
            self._cost_s = self._copy_s + (written_s if self._is_on_cpu else 0.0)

    def close(self) -> None:
        """End the thread after the write that is under way, whatever that raises."""
        self._pool.shutdown()

    def _written(self, step: int, snapshot: Snapshot, state: Mapping[str, Any]) -> float:
        """Write and publish; returns the seconds of CPU that it took."""
        began = time.thread_time()
        folder = self._store.progress_folder(self._key, step, self._lease.token)
        files = {name: write_tensors(folder / name, part) for name, part in snapshot.items()}
        self._store.put_progress(self._key, step, folder, files, self._lease)
        self._store.publish_progress(self._key, step, files, state, self._lease)
        return time.thread_time() - began


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> FileEntry:
    """Write float32 tensors on the CPU as safetensors, without another copy; returns the size and
    the digest of the file."""
    header, num_bytes = {}, 0
    for name, tensor in tensors.items():
        offsets = [num_bytes, num_bytes + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        num_bytes = offsets[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts: list[Any] = [len(text).to_bytes(8, "little"), text]
    parts += [tensor.numpy().reshape(-1) for tensor in tensors.values()]
    sha256 = hashlib.sha256()
    with file.open("wb") as stream:
        for part in parts:
            stream.write(part)
            sha256.update(part)
    return FileEntry(8 + len(text) + num_bytes, sha256.hexdigest())
