"""What a stage takes: time from its lease to its result, and the most memory of its process."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path

import torch

_PEAK = "VmHWM:"


class UsageMeter:
    """Measures from the moment when it is made.

    Linux can begin to count the peak of a process anew. Elsewhere it is that of the whole life of
    the process, which may have made other stages before.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, float]:
        """``wall_s``, ``peak_memory_gib`` of the process, and ``peak_gpu_gib`` of tensors where
        there is a GPU."""
        usage = {"wall_s": time.monotonic() - self._began, "peak_memory_gib": _peak_bytes() / 2**30}
        if torch.cuda.is_initialized():
            usage["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return usage


def _peak_bytes() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(_PEAK):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
