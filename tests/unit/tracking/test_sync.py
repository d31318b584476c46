"""The thread that writes MLflow: the last state of everything arrives, and training never waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.tracking.conftest import trial_view
from xlt_ray.errors import TrackingError, TrackingOutage
from xlt_ray.ledger import Standing, TrialView
from xlt_ray.tracking import LedgerSnapshot, MlflowSync, Point, TrialSnapshot, sync

LONG_S = 60.0
"""Longer than any test waits unless something is wrong."""


@dataclass
class Server:
    """Stands for a tracker and its MLflow: what arrived, and what goes wrong on the way."""

    uri: str = "http://there"
    note_answer: Callable[[], object] = lambda: None
    run_ids: dict[int, str] = field(default_factory=dict)
    arrived: list[object] = field(default_factory=list)
    points: dict[str, list[int]] = field(default_factory=dict)
    """Steps that each run has."""
    outages: list[bool] = field(default_factory=list)
    """Whether the next calls meet an outage; none when it is used up."""
    refused: set[object] = field(default_factory=set)
    is_open: threading.Event = field(default_factory=threading.Event)
    """While it is not set, a call does not come back."""
    reached: threading.Event = field(default_factory=threading.Event)
    num_calls: int = 0
    num_pages: int = 0
    """Answers on the way to the end of a sweep."""
    leftover: dict[int, str] = field(default_factory=dict)
    """Runs of earlier drivers."""
    bug: Exception | None = None

    def __post_init__(self) -> None:
        self.is_open.set()

    def on_answer(self, call: Callable[[], object]) -> None:
        self.note_answer = call

    def take(self, what: object) -> None:
        self.num_calls += 1
        self.reached.set()
        self.is_open.wait(LONG_S)
        if self.outages and self.outages.pop(0):
            raise TrackingOutage("no answer", uri=self.uri)
        if what in self.refused:
            raise TrackingError("no", uri=self.uri)
        self.arrived.append(what)

    def begin(self, ledger: LedgerSnapshot, config: Mapping[str, Any]) -> None:
        self.take("begin")

    def project(self, *_: object) -> None:
        if self.bug is not None:
            raise self.bug
        self.take("compared")
        self.run_ids |= self.leftover

    def end(self, ledger: LedgerSnapshot, status: str) -> None:
        for _ in range(self.num_pages):
            time.sleep(0.03)
            self.note_answer()
        self.take(status)

    def show_time_left(self, text: str) -> None:
        self.take(text)

    def find_or_make(self, view: TrialView) -> Any:
        self.take(("find", view.number))
        run_id = self.run_ids.setdefault(view.number, f"run {view.number}")

        def log(points: Iterable[Point]) -> None:
            self.take((run_id, "points"))
            self._log(run_id, points)

        return SimpleNamespace(id=run_id, log=log)

    def show(self, run: Any, trial: TrialSnapshot, store: object, points: Iterable[Point]) -> None:
        self._log(run.id, points)
        self.take((run.id, trial.standing))

    def _log(self, run_id: str, points: Iterable[Point]) -> None:
        steps = self.points.setdefault(run_id, [])
        for point in points:
            assert point.time_ms
            if point.step not in steps:
                steps.append(point.step)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(sync, "LONGEST_PAUSE_S", 0.004)
    monkeypatch.setattr(sync, "QUIET_S", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.is_open.set()


def trial_of(number: int, standing: Standing = "running", run_id: str | None = None) -> Any:
    state = "running" if standing == "interrupted" else standing
    view = trial_view(number, state, mlflow_run_id=run_id)
    return TrialSnapshot(view, standing)


NOTHING = LedgerSnapshot({}, (), None)


def sync_to(server: Server, ledger: LedgerSnapshot = NOTHING) -> MlflowSync:
    tracker: Any = server
    store: Any = None
    return MlflowSync(tracker, store, ledger, {}, lambda _: ({}, ()))


def flushed(syncing: MlflowSync) -> None:
    """Wait until all is there."""
    syncing.flush(lambda _: None, LONG_S)
    assert not syncing.num_dirty


def whole_sweep(syncing: MlflowSync) -> None:
    """A sweep of one trial."""
    syncing.mark(trial_of(3))
    for step in (10, 20, 30):
        syncing.log(3, step, {"dev/f1": 0.5})
    syncing.mark(trial_of(3, "complete"))
    syncing.end(NOTHING, "FINISHED")


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outages=st.lists(st.booleans(), max_size=20))
def test_whatever_the_outages_the_last_state_arrives(outages: list[bool]) -> None:
    server = Server(outages=list(outages))
    with sync_to(server) as syncing:
        whole_sweep(syncing)
        flushed(syncing)
        warnings = syncing.replies().warnings
    assert [*dict.fromkeys(server.arrived)][:2] == ["begin", "compared"]
    assert server.arrived[-2:] == [("run 3", "complete"), "FINISHED"]
    assert server.points == {"run 3": [10, 20, 30]}
    begun = sum("goes on" in line for line in warnings)
    assert begun == sum(": answers again" in line for line in warnings)
    assert bool(begun) == any(outages[: server.num_calls])


class SlowServer(Server):
    """Is opened when ``is_allowed`` is set, and cannot be used where that is not so."""

    def __init__(self, *, is_usable: bool) -> None:
        super().__init__()
        self.is_allowed = threading.Event()
        self.is_usable = is_usable

    def on_answer(self, call: Callable[[], object]) -> None:
        assert self.is_allowed.wait(LONG_S)
        if not self.is_usable:
            raise TrackingError("cannot be opened", uri=self.uri)
        super().on_answer(call)


def test_the_driver_goes_on_while_mlflow_is_opened() -> None:
    server = SlowServer(is_usable=True)
    with sync_to(server) as syncing:
        whole_sweep(syncing)
        assert server.arrived == []
        server.is_allowed.set()
        syncing.wait_until_open()
        flushed(syncing)
    assert server.arrived[-1] == "FINISHED"


def test_what_cannot_be_opened_is_raised_for_the_driver() -> None:
    server = SlowServer(is_usable=False)
    with sync_to(server) as syncing:
        server.is_allowed.set()
        with pytest.raises(TrackingError, match="cannot be opened"):
            syncing.wait_until_open()


def test_what_changed_during_an_outage_is_written_once(server: Server) -> None:
    server.outages = [True] * 1_000_000
    with sync_to(server) as syncing:
        assert server.reached.wait(LONG_S)
        for number in range(50):
            syncing.mark(trial_of(number))
            syncing.log(number, 10, {"dev/f1": 0.5})
            syncing.mark(trial_of(number, "complete"))
        syncing.end(NOTHING, "FINISHED")
        server.outages.clear()
        flushed(syncing)
    assert [what for what in server.arrived if what[0] != "find"] == [  # type: ignore[index]
        "begin", "compared", *((f"run {number}", "complete") for number in range(50)), "FINISHED",
    ]  # fmt: skip
    assert set(map(tuple, server.points.values())) == {(10,)}


def test_the_curve_of_a_trial_appears_while_it_trains(server: Server) -> None:
    with sync_to(server) as syncing:
        syncing.mark(trial_of(3))
        wait_for(lambda: ("run 3", "running") in server.arrived)
        for step in (10, 20, 30):
            syncing.log(3, step, {"dev/f1": 0.5})
            wait_for(lambda step=step: step in server.points["run 3"])  # type: ignore[misc]
        wait_for(lambda: not syncing.num_dirty)
    assert server.arrived.count(("run 3", "running")) == 1, "nothing else is written again"


def test_what_changes_while_a_trial_is_written_is_written_next(server: Server) -> None:
    with sync_to(server) as syncing:
        wait_for(lambda: not syncing.num_dirty)
        server.is_open.clear()
        server.reached.clear()
        syncing.mark(trial_of(3))
        assert server.reached.wait(LONG_S)
        syncing.log(3, 10, {"dev/f1": 0.5})
        syncing.mark(trial_of(3, "complete"))
        assert syncing.num_dirty == 1
        server.is_open.set()
        flushed(syncing)
    assert server.arrived[-1] == ("run 3", "complete")
    assert server.points == {"run 3": [10]}
    assert not syncing._trials, "a trial that has ended is forgotten"
    assert not syncing._points


def test_the_end_of_a_sweep_of_thousands_of_runs_is_waited_for_while_answers_come(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "NO_REPLY_TIMEOUT_S", 0.5)
    server.num_pages = 25
    with sync_to(server) as syncing:
        whole_sweep(syncing)
        syncing.flush(lambda _: None, LONG_S)
        assert not syncing.num_dirty
    assert server.arrived[-1] == "FINISHED"


@pytest.fixture
def hanging(server: Server) -> Iterator[MlflowSync]:
    """A sweep that has ended, whose server does not answer to its first request."""
    server.is_open.clear()
    with sync_to(server) as syncing:
        whole_sweep(syncing)
        assert server.reached.wait(LONG_S)
        yield syncing


def test_the_driver_does_not_wait_for_a_server_that_hangs(
    hanging: MlflowSync, server: Server
) -> None:
    assert server.arrived == []
    assert hanging.num_dirty == 3
    server.is_open.set()
    flushed(hanging)
    assert server.arrived[-1] == "FINISHED"


def test_the_end_of_a_sweep_waits_for_a_silent_server_only_so_long(
    hanging: MlflowSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "NO_REPLY_TIMEOUT_S", 0.05)
    lines: list[str] = []
    hanging.flush(lines.append, LONG_S)
    assert hanging.num_dirty
    assert "3 runs are still to be updated" in lines[0]
    assert "3 runs were not updated" in lines[1]
    assert "run the same command again" in lines[1]


def test_a_stopped_sweep_waits_for_a_slow_server_only_so_long(hanging: MlflowSync) -> None:
    hanging.flush(lambda _: None, 0.05)
    assert hanging.num_dirty


def test_sigint_ends_the_wait(hanging: MlflowSync) -> None:
    def interrupt(message: str) -> None:
        if "still to be updated" in message:
            raise KeyboardInterrupt

    hanging.flush(interrupt, LONG_S)
    assert hanging.num_dirty


def test_nothing_is_sent_after_the_sweep_was_left(hanging: MlflowSync, server: Server) -> None:
    hanging.close()
    server.is_open.set()
    hanging._thread.join(LONG_S)
    assert not hanging._thread.is_alive()
    assert {*server.arrived} <= {"begin", "compared"}, "which the thread had begun before"


@pytest.mark.parametrize("refused", ["begin", "compared", ("find", 3), ("run 3", "complete")])
def test_what_is_refused_is_reported_once_and_holds_nothing_up(
    server: Server, refused: object
) -> None:
    server.refused = {refused, ("find", 5)}
    with sync_to(server) as syncing:
        syncing.mark(trial_of(5, "complete"))
        syncing.mark(trial_of(3, "complete"))
        syncing.mark(trial_of(4, "complete"))
        syncing.end(NOTHING, "FINISHED")
        flushed(syncing)
        (warning,) = syncing.replies().warnings
    assert "http://there: no" in warning
    assert "continuing without it" in warning
    expected = {"begin", "compared", ("run 3", "complete"), ("run 4", "complete"), "FINISHED"}
    missing = {refused, ("run 3", "complete")} if refused == ("find", 3) else {refused}
    assert {what for what in server.arrived if what[0] != "find"} == expected - missing  # type: ignore[index]


def test_a_run_that_takes_no_points_any_more_is_looked_for_again(server: Server) -> None:
    server.refused = {("run 3", "points")}
    with sync_to(server) as syncing:
        syncing.mark(trial_of(3))
        wait_for(lambda: not syncing.num_dirty)
        server.run_ids[3] = "run 3 made again"
        for step in (10, 20):
            syncing.log(3, step, {"dev/f1": 0.5})
            wait_for(lambda: not syncing.num_dirty)
    assert server.points["run 3 made again"] == [10, 20]


def test_an_error_that_was_not_foreseen_ends_neither_thread_nor_sweep(server: Server) -> None:
    server.bug = ZeroDivisionError("a bug")
    with sync_to(server) as syncing:
        whole_sweep(syncing)
        flushed(syncing)
        assert "ZeroDivisionError: a bug" in syncing.replies().warnings[0]
    assert server.arrived[-2:] == [("run 3", "complete"), "FINISHED"]


@pytest.mark.parametrize("is_refused", [False, True])
def test_the_driver_fetches_the_runs_that_its_ledger_does_not_know(
    server: Server, is_refused: bool
) -> None:
    known = [(0, "a"), (1, None), (2, "x")]
    views = tuple(trial_of(number, "complete", run_id).view for number, run_id in known)
    server.leftover = {0: "a", 1: "b", 2: "c"}
    if is_refused:
        server.refused = {"compared"}
        server.run_ids = {0: "a", 1: "b", 2: "c"}
    with sync_to(server, LedgerSnapshot({}, views, None)) as syncing:
        syncing.mark(trial_of(3))
        flushed(syncing)
        assert syncing.replies().runs == {1: "b", 2: "c", 3: "run 3"}
        assert syncing.replies().runs == {}


def test_the_time_left_is_shown_while_the_sweep_runs_and_an_outage_skips_it(server: Server) -> None:
    with sync_to(server) as syncing:
        syncing.show_time_left("about 3 min left")
        wait_for(lambda: "about 3 min left" in server.arrived)
        server.outages = [True]
        syncing.show_time_left("about 2 min left")
        wait_for(lambda: not server.outages)
        syncing.show_time_left("about 1 min left")
        wait_for(lambda: "about 1 min left" in server.arrived)
        syncing.end(NOTHING, "FINISHED")
        flushed(syncing)
    assert server.arrived[-1] == "FINISHED"
    assert "about 2 min left" not in server.arrived
