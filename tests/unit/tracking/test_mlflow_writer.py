"""The courier: in order, each letter once, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.ledger import TrialView
from xlt_ray.store.record import Score
from xlt_ray.store.stage import Stage
from xlt_ray.tracking import LedgerSnapshot, MlflowWriter, Outbox, courier
from xlt_ray.tracking.spool import OutboxPoint

LONG_S = 60.0
"""Longer than any test waits unless something is wrong."""


@dataclass
class Transport:
    """Stands for MLflow's side: what arrived, and what goes wrong on the way."""

    uri: str = "http://there"
    run_ids: dict[int, str] = field(default_factory=dict)
    arrived: list[object] = field(default_factory=list)
    outages: list[bool] = field(default_factory=list)
    """Whether the next calls meet an outage; none when it is used up."""
    refused: set[object] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    """While it is not set, a call does not come back."""
    reached: threading.Event = field(default_factory=threading.Event)
    num_calls: int = 0
    num_pages: int = 0
    """Answers on the way to the end of a sweep."""

    def __post_init__(self) -> None:
        self.gate.set()

    def _take(self, what: object) -> None:
        self.num_calls += 1
        self.reached.set()
        self.gate.wait(LONG_S)
        if self.outages and self.outages.pop(0):
            raise TrackingOutage("no answer", uri=self.uri)
        if what in self.refused:
            raise TrackingError("no", uri=self.uri)
        self.arrived.append(what)

    def begin(self, books: LedgerSnapshot, config: Mapping[str, Any]) -> None:
        self._take("begin")

    def end(self, books: LedgerSnapshot, status: str, beat: Callable[[], object]) -> None:
        for _ in range(self.num_pages):
            time.sleep(0.03)
            beat()
        self._take(status)

    def start_trial(
        self,
        view: TrialView,
        config: Mapping[str, Any],
        params: Mapping[str, Any],
        path: Sequence[Stage],
    ) -> str:
        self._take(("start", view.number))
        return self.run_ids.setdefault(view.number, f"run {view.number}")

    def log(self, run_id: str, step: int, metrics: Mapping[str, float], moment: int) -> None:
        assert moment > 0
        self._take((run_id, step))

    def finish(self, view: TrialView, scores: Sequence[Score], *, is_whole: bool) -> None:
        self._take((view.mlflow_run_id, view.state, "whole" if is_whole else "gaps"))

    def stop_trial(self, run_id: str) -> None:
        self._take((run_id, "stopped"))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(courier, "LONGEST_PAUSE_S", 0.004)


@pytest.fixture
def there() -> Iterator[Transport]:
    transport = Transport()
    yield transport
    transport.gate.set()


@pytest.fixture
def spool(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "spool" / "t.jsonl")


def view_of(number: int, state: Any = "running") -> TrialView:
    return TrialView(
        number=number, state=state, assignment={}, configuration=0, repeat=0, seed=0,
        objective=None, curve=(), attempts=1, cause=None, message="", log="", stages=(),
        mlflow_run_id=None, retry_of=None, started=None, ended=None,
    )  # fmt: skip


NOTHING = LedgerSnapshot({}, (), None)


def settled(sender: MlflowWriter) -> list[str]:
    """Wait until all is sent; what the user was told at that."""
    said: list[str] = []
    sender.settle(said.append, LONG_S)
    assert not sender.num_waiting
    return said


def tell_all(sender: MlflowWriter) -> list[object]:
    """A sweep of one trial; what has to arrive of it."""
    sender.begin(NOTHING, {})
    sender.started(view_of(3), {}, {}, ())
    for step in (10, 20, 30):
        sender.evaluated(3, step, {"dev/f1": 0.5})
    sender.finished(view_of(3, "complete"), ())
    sender.end(NOTHING, "FINISHED")
    points = [("run 3", step) for step in (10, 20, 30)]
    return ["begin", ("start", 3), *points, ("run 3", "complete", "whole"), "FINISHED"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outages=st.lists(st.booleans(), max_size=20))
def test_whatever_the_outages_all_arrives_once_and_in_order(
    spool: Outbox, outages: list[bool]
) -> None:
    there = Transport(outages=list(outages))
    with MlflowWriter(there, spool) as sender:
        expected = tell_all(sender)
        settled(sender)
        news = sender.mail().news
    assert there.arrived == expected
    met = outages[: there.num_calls]
    begun = sum(one and not before for before, one in zip([False, *met], met, strict=False))
    assert sum("goes on" in line for line in news) == begun
    assert sum(": answers again" in line for line in news) == begun


def test_the_desk_does_not_wait_for_a_server_that_hangs(there: Transport, spool: Outbox) -> None:
    there.gate.clear()
    with MlflowWriter(there, spool) as sender:
        expected = tell_all(sender)
        assert there.reached.wait(LONG_S)
        assert there.arrived == []
        assert sender.num_waiting == len(expected)
        there.gate.set()
        settled(sender)
    assert there.arrived == expected


def test_the_end_of_a_sweep_waits_for_a_silent_server_only_so_long(
    there: Transport, monkeypatch: pytest.MonkeyPatch, spool: Outbox
) -> None:
    monkeypatch.setattr(courier, "QUIET_S", 0.01)
    monkeypatch.setattr(courier, "NO_REPLY_TIMEOUT_S", 0.05)
    there.gate.clear()
    said: list[str] = []
    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        sender.settle(said.append, LONG_S)
        assert sender.num_waiting
    assert "7 messages are still to be sent" in said[0]
    assert "7 messages were not sent" in said[1]
    assert "run the same command again" in said[1]


def test_the_end_of_a_sweep_of_thousands_of_runs_is_waited_for_while_answers_come(
    there: Transport, monkeypatch: pytest.MonkeyPatch, spool: Outbox
) -> None:
    monkeypatch.setattr(courier, "QUIET_S", 0.01)
    monkeypatch.setattr(courier, "NO_REPLY_TIMEOUT_S", 0.5)
    there.num_pages = 25
    with MlflowWriter(there, spool) as sender:
        expected = tell_all(sender)
        sender.settle(lambda _: None, LONG_S)
        assert not sender.num_waiting
    assert there.arrived == expected


def test_a_stopped_sweep_waits_for_a_slow_server_only_so_long(
    there: Transport, monkeypatch: pytest.MonkeyPatch, spool: Outbox
) -> None:
    monkeypatch.setattr(courier, "QUIET_S", 0.01)
    there.gate.clear()
    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        sender.settle(lambda _: None, 0.05)
        assert sender.num_waiting


def test_sigint_ends_the_wait(
    there: Transport, monkeypatch: pytest.MonkeyPatch, spool: Outbox
) -> None:
    monkeypatch.setattr(courier, "QUIET_S", 0.01)
    there.gate.clear()

    def interrupt(message: str) -> None:
        if "still to be sent" in message:
            raise KeyboardInterrupt

    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        sender.settle(interrupt, LONG_S)
        assert sender.num_waiting


def test_nothing_is_sent_after_the_sweep_was_left(there: Transport, spool: Outbox) -> None:
    there.gate.clear()
    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        assert there.reached.wait(LONG_S)
    there.gate.set()
    sender._thread.join(LONG_S)
    assert not sender._thread.is_alive()
    assert len(there.arrived) <= 1


def test_what_is_refused_is_told_once_and_holds_nothing_up(there: Transport, spool: Outbox) -> None:
    there.refused = {("run 3", 10), ("run 3", 30)}
    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        settled(sender)
        news = sender.mail().news
    assert len(news) == 1
    assert "http://there: no" in news[0]
    # The next projection has to look at this trial again.
    assert there.arrived[2:] == [("run 3", 20), ("run 3", "complete", "gaps"), "FINISHED"]


def test_a_trial_without_a_run_is_left_to_the_projection(there: Transport, spool: Outbox) -> None:
    there.refused = {("start", 3)}
    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        sender.stopped(3)
        settled(sender)
    assert there.arrived == ["begin", (None, "complete", "gaps"), "FINISHED"]


def test_an_error_that_nobody_foresaw_ends_neither_thread_nor_sweep(
    there: Transport, spool: Outbox
) -> None:
    def project(_: Callable[[], object]) -> Mapping[int, str]:
        raise ZeroDivisionError("a bug")

    with MlflowWriter(there, spool) as sender:
        sender.catch_up(project, {})
        expected = tell_all(sender)
        settled(sender)
        assert "ZeroDivisionError: a bug" in sender.mail().news[0]
    assert there.arrived == expected


def test_the_desk_fetches_the_runs_that_its_ledger_does_not_know(
    there: Transport, spool: Outbox
) -> None:
    with MlflowWriter(there, spool) as sender:
        sender.catch_up(lambda _: {0: "a", 1: "b", 2: "c"}, {0: "a", 1: None, 2: "x"})
        sender.started(view_of(3), {}, {}, ())
        settled(sender)
        assert sender.mail().runs == {1: "b", 2: "c", 3: "run 3"}
        assert sender.mail().runs == {}


def test_a_queue_that_is_full_takes_no_points_but_all_the_rest(
    there: Transport, monkeypatch: pytest.MonkeyPatch, spool: Outbox
) -> None:
    monkeypatch.setattr(courier, "MAX_LETTERS", 3)
    there.gate.clear()
    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        there.gate.set()
        settled(sender)
        news = sender.mail().news
    assert len(news) == 1
    assert "3 messages wait" in news[0]
    assert there.arrived == [
        "begin", ("start", 3), ("run 3", 10), ("run 3", "complete", "gaps"), "FINISHED",
    ]  # fmt: skip


def test_points_that_were_sent_leave_the_spool(there: Transport, spool: Outbox) -> None:
    with MlflowWriter(there, spool) as sender:
        tell_all(sender)
        settled(sender)
    assert spool.read() == []


@pytest.mark.parametrize("is_full", [False, True])
def test_points_that_a_dead_driver_had_not_sent_are_sent_by_the_next(
    there: Transport, spool: Outbox, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    if is_full:
        monkeypatch.setattr(courier, "MAX_LETTERS", 3)
    away = Transport(outages=[True] * 1000)
    with MlflowWriter(away, spool) as sender:
        tell_all(sender)
    assert [(one.number, one.examples) for one in spool.read()] == [(3, 10), (3, 20), (3, 30)]
    with MlflowWriter(there, spool) as sender:
        sender.begin(NOTHING, {})
        sender.catch_up(lambda _: {3: "run 3"}, {3: None})
        settled(sender)
    assert there.arrived == ["begin", ("run 3", 10), ("run 3", 20), ("run 3", 30)]
    assert spool.read() == []


def test_points_stay_in_the_spool_until_the_next_driver_has_sent_them(
    there: Transport, spool: Outbox
) -> None:
    away = Transport(outages=[True] * 1000)
    for turn in (1, 2):
        with MlflowWriter(away, spool) as sender:
            sender.catch_up(lambda _: {3: "run 3"}, {3: "run 3"})
            sender.started(view_of(3), {}, {}, ())
            sender.evaluated(3, 10 * turn, {"dev/f1": 0.5})
    assert [one.examples for one in spool.read()] == [10, 20]
    with MlflowWriter(there, spool) as sender:
        sender.catch_up(lambda _: {3: "run 3"}, {3: "run 3"})
        settled(sender)
    assert there.arrived == [("run 3", 10), ("run 3", 20)]


def test_points_of_an_earlier_driver_are_sent_though_the_projection_is_refused_once(
    there: Transport, spool: Outbox
) -> None:
    spool.add(OutboxPoint(3, 10, {"system/memory_gib": 1.0}, 1))
    spool.add(OutboxPoint(4, 10, {"system/memory_gib": 1.0}, 1))
    spool.add(OutboxPoint(3, 20, {"system/memory_gib": 1.0}, 1))
    there.run_ids = {3: "run 3", 4: "run 4"}
    there.refused = {("run 4", 10)}

    def project(_: Callable[[], object]) -> Mapping[int, str]:
        raise TrackingError("no place for artifacts", uri=there.uri)

    with MlflowWriter(there, spool) as sender:
        sender.catch_up(project, {3: None, 4: "run 4"})
        settled(sender)
        mail = sender.mail()
    assert there.arrived == [("run 3", 10), ("run 3", 20)]
    assert mail.runs == {3: "run 3"}
    assert "no place for artifacts" in mail.news[0]
    assert spool.read() == []


def test_points_whose_run_could_not_be_made_stay_for_the_next_driver(
    there: Transport, spool: Outbox
) -> None:
    spool.add(OutboxPoint(3, 10, {"system/memory_gib": 1.0}, 1))

    def project(_: Callable[[], object]) -> Mapping[int, str]:
        raise TrackingError("no", uri=there.uri)

    with MlflowWriter(there, spool) as sender:
        sender.catch_up(project, {3: None})
        settled(sender)
    assert [one.number for one in spool.read()] == [3]
