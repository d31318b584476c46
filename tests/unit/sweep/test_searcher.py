"""What Tune's searcher and scheduler make of a desk that cannot write."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xlt_ray.spec.failures import Failures
from xlt_ray.sweep.losses import Losses
from xlt_ray.sweep.order import Report
from xlt_ray.sweep.searcher import DeskScheduler, DeskSearcher


class FullDesk:
    """A desk on a full disk, with one trial."""

    num_running = 0
    is_done = False

    def next_order(self) -> Any:
        return SimpleNamespace(number=3)

    def finish(self, number: int, report: Report | None) -> None:
        raise OSError(28, "No space left on device")

    def hear(self, number: int, report: Report) -> bool:
        raise AssertionError("the trial has ended, and does not go on")


def test_an_end_that_cannot_be_written_ends_the_run_and_not_the_trial_alone(
    tmp_path: Path,
) -> None:
    desk: Any = FullDesk()
    losses = Losses(Failures(), tmp_path)
    searcher = DeskSearcher(desk, losses, lambda: 1)
    searcher.suggest("a")
    with pytest.raises(OSError, match="No space"):
        searcher.on_trial_complete("a", {"report": None})
    # Tune takes that for a failure of the trial, and asks the scheduler what is to be done.
    trial = SimpleNamespace(
        config={"order": SimpleNamespace(number=3)}, pickled_error_file=None, trial_id="a"
    )
    with pytest.raises(OSError, match="No space"):
        DeskScheduler(desk, losses).on_trial_error(None, trial)
