"""Keeps MLflow up to date while a sweep runs, without delaying it.

The driver marks trials that changed; one thread brings their runs to what ledger and store say
(:mod:`xlt_ray.tracking.runs`), and the mark goes when MLflow has answered. A trial that changes ten
times during an outage is written once. What an earlier driver left is compared at the start.

The thread never touches the ledger, because Optuna's objects are not safe to read while another
thread changes them: the driver hands over snapshots, and fetches :meth:`MlflowSync.replies`.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from xlt_ray.errors import TrackingOutage
from xlt_ray.ledger import TrialView
from xlt_ray.redact import redacted
from xlt_ray.store.store import StageStore
from xlt_ray.tracking.client import Point, TrackedRun, do_all, now_ms
from xlt_ray.tracking.mlflow_fields import Going, LedgerSnapshot, TrialSnapshot
from xlt_ray.tracking.runs import Plan, Tracker

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
QUIET_S = 2.0
"""For this long the end of a sweep waits for MLflow without saying so."""
NO_REPLY_TIMEOUT_S = 20.0
"""Longest wait for an answer at the end, and for all of them where the sweep was stopped."""
FLUSH_TIMEOUT_S = 120.0
"""Longest wait where MLflow answers and the sweep ran to its end."""

Job = int | Literal["start", "time left", "end"]
"""What the thread does next: a trial by its number, or something about the whole sweep."""


@dataclass
class Replies:
    """What came back since the driver last looked."""

    runs: dict[int, str] = field(default_factory=dict)
    """Ids of runs by trial, where the ledger may not have them."""
    warnings: list[str] = field(default_factory=list)
    """For the user."""


class MlflowSync:
    """Brings the runs of one sweep up to date on a thread of its own.

    All methods return at once, except :meth:`wait_until_open` and :meth:`flush`.
    ``with MlflowSync(...) as sync`` starts the thread and ends it. What earlier drivers left is
    compared with ``ledger``; ``config`` is the resolved sweep.
    """

    def __init__(
        self,
        tracker: Tracker,
        store: StageStore,
        ledger: LedgerSnapshot,
        config: Mapping[str, Any],
        plan: Plan,
    ) -> None:
        self._tracker = tracker
        self._store = store
        self._ledger = ledger
        self._config = config
        self._plan = plan
        self._uri = str(redacted(tracker.uri))
        self._changed = threading.Condition()
        self._is_started = False
        self._dirty: dict[int, int] = {}
        """How often each dirty trial was marked, by number; the one that waits longest first."""
        self._trials: dict[int, TrialSnapshot] = {}
        """Trials that are dirty or at work, as the driver last described them."""
        self._points: dict[int, list[Point]] = defaultdict(list)
        """What these trials reported to this driver."""
        self._time_left: str | None = None
        """None once it is shown."""
        self._ending: tuple[LedgerSnapshot, Going] | None = None
        self._shown: dict[int, tuple[TrialSnapshot, TrackedRun]] = {}
        """What the runs of trials at work show already; the thread's own."""
        self._replies = Replies()
        self._is_closed = False
        self._is_flushing = False
        self._is_outage = False
        self._has_refused = False
        self._pause_s = FIRST_PAUSE_S
        self._answered = time.monotonic()
        self._opened: Future[None] = Future()
        # A request that hangs does not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> MlflowSync:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- for the driver -----------------------------------------------------------------

    def wait_until_open(self) -> None:
        """Wait until MLflow is imported and its place is found to be usable.

        Raises:
            TrackingError: it cannot be used there.
        """
        self._opened.result()

    def mark(self, trial: TrialSnapshot) -> None:
        """A trial has begun, was interrupted or has ended: its run is to show this."""
        with self._changed:
            self._trials[trial.view.number] = trial
            self._mark(trial.view.number)

    def log(
        self, number: int, examples: int, metrics: Mapping[str, float], time_ms: int | None = None
    ) -> None:
        """A trial at work was scored after ``examples``, at ``time_ms`` or just now."""
        moment = now_ms() if time_ms is None else time_ms
        points = [Point(name, examples, value, moment) for name, value in metrics.items()]
        with self._changed:
            if number in self._trials:
                self._points[number] += points
                self._mark(number)

    def show_time_left(self, text: str) -> None:
        """How long the sweep still takes."""
        with self._changed:
            self._time_left = text
            self._changed.notify_all()

    def end(self, ledger: LedgerSnapshot, going: Going) -> None:
        """The sweep has ended, or (KILLED) goes on at its next start."""
        with self._changed:
            self._ending = (ledger, going)
            self._changed.notify_all()

    def replies(self) -> Replies:
        """What came back since the last call."""
        with self._changed:
            replies, self._replies = self._replies, Replies()
        return replies

    @property
    def num_dirty(self) -> int:
        """How many runs MLflow does not show as they are; those that the start compares are one."""
        return (not self._is_started) + len(self._dirty) + (self._ending is not None)

    @property
    def _has_job(self) -> bool:
        return bool(self.num_dirty) or self._time_left is not None

    def flush(self, say: Callable[[str], None], timeout_s: float) -> None:
        """Wait until MLflow shows everything, then close.

        Waits at most ``timeout_s``, and at most :data:`NO_REPLY_TIMEOUT_S` without any answer.
        SIGINT ends the wait. ``say`` is called with what the user has to know: why the process does
        not end yet, and what MLflow does not show.
        """
        began = self._answered = time.monotonic()
        with self._changed:
            self._is_flushing = True
            self._changed.notify_all()
        with suppress(KeyboardInterrupt):
            if not self._wait(lambda: began + QUIET_S):
                say(
                    f"{self._uri}: {self.num_dirty} runs are still to be updated; "
                    f"waiting for {min(timeout_s, NO_REPLY_TIMEOUT_S):.0f} s at most "
                    "if it does not answer"
                )
                self._wait(lambda: min(began + timeout_s, self._answered + NO_REPLY_TIMEOUT_S))
        self.close()
        if self.num_dirty:
            say(
                f"{self._uri}: {self.num_dirty} runs were not updated; nothing is lost: "
                "run the same command again when it is back, and it shows the rest"
            )

    def close(self) -> None:
        """Send nothing more; a request that is under way is not waited for."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _wait(self, deadline: Callable[[], float]) -> bool:
        """Wait until nothing is dirty; False where that took too long."""
        with self._changed:
            while self.num_dirty and time.monotonic() < deadline():
                self._changed.wait(0.1)
            return not self.num_dirty

    def _mark(self, number: int) -> None:
        self._dirty[number] = self._dirty.get(number, 0) + 1
        self._changed.notify_all()

    # -- the thread ---------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._tracker.on_answer(self._note_answer)
        except Exception as error:  # noqa: BLE001 - `wait_until_open` raises it
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_job or self._is_closed)
                if self._is_closed:
                    return
                first: Job = next(iter(self._dirty), "end" if self._ending else "time left")
                job = first if self._is_started else "start"
                marks = self._dirty.get(job, 0) if isinstance(job, int) else 0
            if self._is_answered(job):
                with self._changed:
                    self._clean(job, marks)
            else:
                self._pause()

    def _is_answered(self, job: Job) -> bool:
        """Do a job; whether MLflow has answered, with a refusal or not."""
        try:
            if isinstance(job, int):
                self._show(job)
            elif job == "start":
                do_all(lambda: self._tracker.begin(self._ledger, self._config), self._catch_up)
            elif job == "time left":
                # After an outage the next one is shown.
                text, self._time_left = self._time_left, None
                self._tracker.show_time_left(text or "")
            elif self._ending is not None:
                self._tracker.end(*self._ending)
        except TrackingOutage as error:
            with self._changed:
                if not self._is_outage:
                    self._replies.warnings.append(
                        f"{error}; training goes on, and MLflow is updated when it answers again"
                    )
                self._is_outage = True
                self._shown.clear()
            return False
        except Exception as error:  # noqa: BLE001
            # Whatever MLflow and its libraries raise ends neither the training nor this thread.
            with self._changed:
                if not self._has_refused:
                    self._has_refused = True
                    self._replies.warnings.append(
                        f"MLflow rejected an update ({type(error).__name__}: {error}); "
                        "continuing without it"
                    )
        return True

    def _clean(self, job: Job, marks: int) -> None:
        """MLflow has answered a job: it is done, unless its trial was marked meanwhile."""
        self._pause_s = FIRST_PAUSE_S
        if job == "start":
            self._is_started = True
        elif job == "end":
            self._ending = None
        elif job == "time left":
            pass
        elif (left := self._dirty.pop(job) - marks) > 0:
            self._dirty[job] = left
        elif self._trials[job].standing != "running":
            del self._trials[job]
            self._points.pop(job, None)
            self._shown.pop(job, None)
        if self._is_outage:
            self._is_outage = False
            rest = f"; {self.num_dirty} runs are still to be updated" if self.num_dirty else ""
            self._replies.warnings.append(f"{self._uri}: answers again{rest}")
        self._changed.notify_all()

    def _catch_up(self) -> None:
        """Bring every run that does not show its trial to what earlier drivers left."""
        try:
            self._tracker.project(self._ledger, self._store, self._plan)
        finally:
            for view in self._ledger.trials:
                self._reply(view, self._tracker.run_ids.get(view.number))

    def _reply(self, view: TrialView, run_id: str | None) -> None:
        if run_id is not None and run_id != view.mlflow_run_id:
            with self._changed:
                self._replies.runs[view.number] = run_id

    def _show(self, number: int) -> None:
        """Bring the run of a trial up to date."""
        with self._changed:
            trial, points = self._trials[number], tuple(self._points[number])
        shown, run = self._shown.pop(number, (None, None))
        if run is None or shown is not trial:
            run = self._tracker.find_or_make(trial.view)
            self._reply(trial.view, run.id)
            # What MLflow refuses of it is not sent again with every point.
            self._shown[number] = trial, run
            self._tracker.show(run, trial, self._store, points)
        else:
            # A run that rejects points is looked for again next time.
            run.log(points)
            self._shown[number] = trial, run

    def _note_answer(self) -> None:
        self._answered = time.monotonic()

    def _pause(self) -> None:
        """Wait before the next try; less where the sweep waits to end."""
        with self._changed:
            was_flushing = self._is_flushing
            self._changed.wait_for(
                lambda: self._is_closed or self._is_flushing != was_flushing,
                timeout=FIRST_PAUSE_S if was_flushing else self._pause_s,
            )
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
