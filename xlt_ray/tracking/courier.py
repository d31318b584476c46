"""The courier takes to MLflow what the driver's desk hands it, so that training never waits.

One thread sends letter after letter, in the order in which they were handed in; a letter leaves
the queue when MLflow has answered. Where it does not answer, the courier tries again with growing
pauses, says so once, and once more when the answers come back. What MLflow refuses is put aside
with a warning, and the rest goes on.

The queue is in memory, and nothing is lost with it:

- Ledger and store hold what MLflow shows: trials, parameters, states, the objective on its way,
  scores, and the loss and all dev metrics of every training (in the stage's record, or in its
  progress while it is not finished). :func:`~xlt_ray.tracking.projection.project` brings all of
  it to MLflow at the next start.
- What they do not hold is what only the driver hears: memory and examples per second. Points wait
  in the home's :mod:`spool <xlt_ray.tracking.spool>` besides, until the queue is empty; if
  MLflow refuses to make the run that they belong to, until a later driver gets it made.

Sending twice shows a thing once. A run is looked for by its tags before it is made, steps that
are there are not logged again, and a point carries the moment at which it was measured, so that
even two requests for it, of which the first was answered too late, are one point to MLflow.

Nothing here touches the ledger: the desk hands in plain values, and fetches the ids of runs with
:meth:`MlflowWriter.mail` on its own thread. Optuna's objects change under a second reader, so
neither reading nor writing the ledger from here would be safe.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol

from xlt_ray.config.search_space import Value
from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.ledger import TrialView
from xlt_ray.redact import redacted
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.tracking.account import LedgerSnapshot
from xlt_ray.tracking.spool import Outbox, OutboxPoint

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
MAX_LETTERS = 100_000
"""Some hundred MB. Beyond it, points are not kept for MLflow; ledger and store have them."""
QUIET_S = 2.0
"""So long the end of a sweep waits without saying so."""
NO_REPLY_TIMEOUT_S = 20.0
"""So long it waits for any answer, and for all of them where the sweep was stopped."""
FLUSH_TIMEOUT_S = 120.0
"""So long it waits where MLflow answers and the sweep ran to its end."""


class Runs(Protocol):
    """What a courier needs of a :class:`~xlt_ray.tracking.runs.Tracker`."""

    uri: str
    run_ids: dict[int, str]

    def begin(self, books: LedgerSnapshot, config: Mapping[str, Any]) -> object: ...

    def end(
        self,
        books: LedgerSnapshot,
        status: Literal["FINISHED", "FAILED", "KILLED"],
        beat: Callable[[], object],
    ) -> None: ...

    def start_trial(
        self,
        view: TrialView,
        config: Mapping[str, Any],
        params: Mapping[str, Value],
        path: Sequence[Stage],
    ) -> str: ...

    def log(self, run_id: str, step: int, metrics: Mapping[str, float], moment: int) -> None: ...

    def finish(self, view: TrialView, scores: Sequence[Score], *, is_whole: bool) -> None: ...

    def stop_trial(self, run_id: str) -> None: ...


Catching = Callable[[Callable[[], object]], Mapping[int, str]]
"""Projects earlier runs of a sweep; calls its argument as it gets on; the runs of trials."""


@dataclass
class Replies:
    """What came back since the desk last looked: runs by trial, and news for the user."""

    runs: dict[int, str] = field(default_factory=dict)
    news: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Update:
    """One thing that MLflow is to be told, and the trial that it is about."""

    send: Callable[[], object]
    number: int | None = None


class MlflowWriter:
    """Sends letters to one MLflow, in order, on a thread of its own, until it is closed.

    All methods but those with an underscore are for the desk's thread and return at once;
    :meth:`settle` alone waits. ``with MlflowWriter(tracker) as courier`` starts and closes it.
    """

    def __init__(self, tracker: Runs, spool: Outbox) -> None:
        self._tracker = tracker
        self._uri = str(redacted(tracker.uri))
        self._spool = spool
        self._leftover = spool.read()
        self._letters: deque[Update] = deque()
        self._changed = threading.Condition()
        self._mail = Replies()
        self._gaps: set[int] = set()
        self._is_closed = False
        self._is_leaving = False
        self._is_out = False
        self._has_refused = False
        self._has_dropped = False
        self._keeps_spool = False
        self._pause_s = FIRST_PAUSE_S
        self._answered = time.monotonic()
        # A request that hangs does not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)

    def __enter__(self) -> MlflowWriter:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what happened ------------------------------------------------------------------

    def begin(self, account: LedgerSnapshot, config: Mapping[str, Any]) -> None:
        """The sweep begins or goes on; ``config`` is the resolved sweep."""
        self._post(lambda: self._tracker.begin(account, config))

    def catch_up(self, project: Catching, known: Mapping[int, str | None]) -> None:
        """Project what earlier drivers left, and send what they had spooled.

        Args:
            known: runs of trials that the ledger has.
        """

        def send() -> None:
            refusals: list[TrackingError] = []
            try:
                found = project(self._beat)
            except TrackingOutage:
                raise
            except TrackingError as error:
                # All that was not refused is there, most runs too; what has none yet stays in the
                # spool.
                refusals.append(error)
                found = dict(self._tracker.run_ids)
                self._keeps_spool = any(one.number not in found for one in self._leftover)
            for point in self._leftover:
                if point.number in found:
                    try:
                        self._tracker.log(
                            found[point.number], point.examples, point.metrics, point.moment
                        )
                    except TrackingOutage:
                        raise
                    except TrackingError as error:
                        refusals.append(error)
                    self._beat()
            with self._changed:
                self._mail.runs |= {
                    number: found[number]
                    for number in known
                    if number in found and found[number] != known[number]
                }
            if refusals:
                raise refusals[0]

        self._post(send)

    def started(
        self,
        view: TrialView,
        config: Mapping[str, Any],
        params: Mapping[str, Value],
        path: Sequence[Stage],
    ) -> None:
        """A trial is at work; its stages, and those of ``path``, are those that it is to make."""
        self._post(partial(self._start, view, config, params, path), view.number)

    def evaluated(self, number: int, examples: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a trial, measured just now."""
        point = OutboxPoint(number, examples, dict(metrics), int(time.time() * 1000))
        with self._changed:
            self._spool.add(point)
            if len(self._letters) >= MAX_LETTERS:
                self._gaps.add(number)
                if not self._has_dropped:
                    self._has_dropped = True
                    self._mail.news.append(
                        f"{self._uri}: {MAX_LETTERS} messages wait for it; points are "
                        "shown there after the next start of this sweep"
                    )
                return
            self._post(partial(self._log, point), number)

    def finished(self, view: TrialView, scores: Sequence[Score]) -> None:
        """A trial has ended."""
        self._post(partial(self._finish, view, tuple(scores)), view.number)

    def stopped(self, number: int) -> None:
        """A trial goes on at the next start of the sweep; nothing is said of one without a run."""
        self._post(partial(self._stop, number), number)

    def end(self, account: LedgerSnapshot, status: Literal["FINISHED", "KILLED"]) -> None:
        """The sweep has ended, or (KILLED) goes on at its next start."""
        self._post(lambda: self._tracker.end(account, status, self._beat))

    # -- what came of it ----------------------------------------------------------------

    def mail(self) -> Replies:
        """What came back since the last call."""
        with self._changed:
            mail, self._mail = self._mail, Replies()
        return mail

    @property
    def num_waiting(self) -> int:
        """Letters that MLflow has not answered."""
        return len(self._letters)

    def settle(self, say: Callable[[str], None], limit_s: float) -> None:
        """Wait until every letter is answered, then close.

        Waits no longer than ``limit_s``, nor than :data:`SILENCE_S` without any answer. SIGINT
        ends the wait.

        Args:
            say: tells the user that, and why, the process does not end yet.
        """
        began = self._answered = time.monotonic()
        with self._changed:
            self._is_leaving = True
            self._changed.notify_all()
        try:
            if not self._wait(lambda: time.monotonic() < began + QUIET_S):
                say(
                    f"{self._uri}: {self.num_waiting} messages are still to be sent; "
                    f"waiting for {min(limit_s, NO_REPLY_TIMEOUT_S):.0f} s at most "
                    "if it does not answer"
                )
                self._wait(
                    lambda: (
                        time.monotonic() < min(began + limit_s, self._answered + NO_REPLY_TIMEOUT_S)
                    )
                )
        except KeyboardInterrupt:
            pass
        self.close()
        if self._letters:
            say(
                f"{self._uri}: {self.num_waiting} messages were not sent; nothing is lost: "
                "run the same command again when it is back, and it shows the rest"
            )

    def close(self) -> None:
        """Send nothing more; a request that is under way is not waited for."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _wait(self, may_wait: Callable[[], bool]) -> bool:
        """Wait until the queue is empty; False where that took too long."""
        with self._changed:
            while self._letters and self._thread.is_alive():
                if not may_wait():
                    return False
                self._changed.wait(0.1)
        return not self._letters

    # -- the thread ---------------------------------------------------------------------

    def _post(self, send: Callable[[], object], number: int | None = None) -> None:
        with self._changed:
            self._letters.append(Update(send, number))
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._letters or self._is_closed)
                if self._is_closed:
                    return
                letter = self._letters[0]
            is_answered = self._deliver(letter)
            with self._changed:
                if is_answered:
                    self._letters.popleft()
                    if not (self._letters or self._has_dropped or self._keeps_spool):
                        self._spool.clear()
                    self._changed.notify_all()
                else:
                    self._rest()

    def _deliver(self, letter: Update) -> bool:
        """Whether MLflow has answered, be it with a no."""
        try:
            letter.send()
        except TrackingOutage as error:
            with self._changed:
                if not self._is_out:
                    self._mail.news.append(
                        f"{error}; training goes on, and MLflow is told when it answers again"
                    )
                self._is_out = True
            return False
        except Exception as error:  # noqa: BLE001
            # Whatever MLflow and its libraries raise, neither training nor this thread ends.
            with self._changed:
                if letter.number is not None:
                    self._gaps.add(letter.number)
                if not self._has_refused:
                    self._has_refused = True
                    self._mail.news.append(
                        f"MLflow does not take something ({type(error).__name__}: {error}); "
                        "the sweep goes on without it"
                    )
        with self._changed:
            if self._is_out:
                self._is_out = False
                self._mail.news.append(
                    f"{self._uri}: answers again; {self.num_waiting - 1} messages follow"
                )
            self._pause_s = FIRST_PAUSE_S
        self._beat()
        return True

    def _beat(self) -> None:
        self._answered = time.monotonic()

    def _rest(self) -> None:
        """Pause before the next try; less where the sweep waits for it to end."""
        pause_s = FIRST_PAUSE_S if self._is_leaving else self._pause_s
        was_leaving = self._is_leaving
        self._changed.wait_for(
            lambda: self._is_closed or self._is_leaving != was_leaving, timeout=pause_s
        )
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _start(
        self,
        view: TrialView,
        config: Mapping[str, Any],
        params: Mapping[str, Value],
        path: Sequence[Stage],
    ) -> None:
        try:
            self._tracker.start_trial(self._with_run(view), config, params, path)
        finally:
            run_id = self._tracker.run_ids.get(view.number)
            if run_id is not None and run_id != view.mlflow_run_id:
                with self._changed:
                    self._mail.runs[view.number] = run_id

    def _log(self, point: OutboxPoint) -> None:
        run_id = self._tracker.run_ids.get(point.number)
        if run_id is None:
            # MLflow refused to make it.
            with self._changed:
                self._gaps.add(point.number)
        else:
            self._tracker.log(run_id, point.examples, point.metrics, point.moment)

    def _finish(self, view: TrialView, scores: Sequence[Score]) -> None:
        is_whole = view.number not in self._gaps
        self._tracker.finish(self._with_run(view), scores, is_whole=is_whole)

    def _stop(self, number: int) -> None:
        run_id = self._tracker.run_ids.get(number)
        if run_id is not None:
            self._tracker.stop_trial(run_id)

    def _with_run(self, view: TrialView) -> TrialView:
        """The view with the run that this process knows, be it from before the ledger did."""
        run_id = self._tracker.run_ids.get(view.number, view.mlflow_run_id)
        return replace(view, mlflow_run_id=run_id)
