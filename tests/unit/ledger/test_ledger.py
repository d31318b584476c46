"""The ledger: trials follow from it alone, and nothing that was written is lost."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.two_models import GRID, SPACE, bounds
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import (
    AskedTrial,
    Ledger,
    Retry,
    StageUse,
    continued,
    load_ledger,
    open_ledger,
    sweep_of_ledger,
)
from xlt_ray.ledger import ledger as book

TEXT = SPACE + "search: {trials: 5, sampler: random, seed: 7}"
ReadSweep = Callable[..., SweepSpec]


@pytest.fixture
def sweep(sweep_from: ReadSweep) -> SweepSpec:
    return sweep_from(TEXT)


@pytest.fixture
def ledger(home: Home, sweep: SweepSpec) -> Ledger:
    return open_ledger(home, sweep)


def objective_of(asked_trial: AskedTrial) -> float:
    rate = asked_trial.assignment.get("target.learning_rate", 0.0)
    assert isinstance(rate, float)
    return rate * 100 + (0.1 if asked_trial.assignment["model"] == "toy:4x64" else 0.0)


def ask(ledger: Ledger, sweep: SweepSpec) -> AskedTrial:
    asked_trial = ledger.ask(sweep, bounds)
    assert asked_trial is not None
    return asked_trial


def run_through(home: Home, sweep: SweepSpec, *, reopen: bool, lag: int = 1) -> list[Any]:
    """Ask and tell all trials, ``lag`` of them at a time; the ledger's trials at the end."""
    ledger = open_ledger(home, sweep)
    running: list[AskedTrial] = []
    while True:
        asked_trial = ledger.ask(sweep, bounds)
        if reopen:
            ledger = open_ledger(home, sweep)
        if asked_trial is not None:
            running.append(asked_trial)
        if asked_trial is None and not running:
            break
        if asked_trial is None or len(running) >= lag:
            done = running.pop(0)
            ledger.report(done.number, 10, objective_of(done) / 2)
            if reopen:
                ledger = open_ledger(home, sweep)
            ledger.tell_complete(done.number, objective_of(done))
            if reopen:
                ledger = open_ledger(home, sweep)
    return [
        (view.number, dict(view.assignment), view.configuration, view.repeat, view.seed,
         view.objective)
        for view in ledger.trials()
    ]  # fmt: skip


# -- asking -------------------------------------------------------------------------------


def test_a_configuration_is_repeated_with_other_seeds(home: Home, sweep_from: ReadSweep) -> None:
    overrides = ("search.seeds=3", "search.trials=2", "search.training_seed=7")
    trials = run_through(home, sweep_from(TEXT, *overrides), reopen=False)
    assert [(trial[2], trial[3], trial[4]) for trial in trials] == [
        (0, 0, 7), (0, 1, 8), (0, 2, 9), (1, 0, 7), (1, 1, 8), (1, 2, 9),
    ]  # fmt: skip
    assert trials[0][1] == trials[1][1] == trials[2][1] != trials[3][1]


def test_a_first_point_may_name_a_block_and_what_is_in_it(
    home: Home, sweep_from: ReadSweep
) -> None:
    dlfa = '{"layer": {"int": [0, "num_layers - 1"], "log": false, "step": 1}, "method": "dlfa"}'
    point = {"model": "toy:4x64", "target.fusion": dlfa, "target.fusion.layer": 3}
    sweep = sweep_from(TEXT, f"search.first={json.dumps([point])}")
    assert ask(open_ledger(home, sweep), sweep).assignment.items() >= point.items()


def test_a_sweep_without_distributions_has_one_configuration_at_a_time(
    home: Home, sweep_from: ReadSweep
) -> None:
    fixed = ("model=toy:2x64", "target={task: nli}", "search={trials: 1, seeds: 2}")
    ledger = open_ledger(home, sweep := sweep_from(TEXT, *fixed))
    assert [ask(ledger, sweep).seed for _ in range(2)] == [0, 1]
    assert ledger.ask(sweep, bounds) is None


def test_one_path_may_have_other_options_in_another_block(
    home: Home, sweep_from: ReadSweep
) -> None:
    align = (
        "align={choice: [{objective: tlm, steps: {choice: [10, 20]}}, "
        "{objective: code_switch_mlm, steps: {choice: [5, 50]}}]}"
    )
    sweep = sweep_from(TEXT, align, "search={trials: 12, sampler: tpe}")
    seen = {
        (str(row[1]["align"])[:40].count("tlm"), row[1]["align.steps"])
        for row in run_through(home, sweep, reopen=False)
    }
    assert {steps for is_tlm, steps in seen if is_tlm} <= {10, 20}
    assert {steps for is_tlm, steps in seen if not is_tlm} <= {5, 50}
    assert len(seen) > 2


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
@pytest.mark.parametrize("lag", [1, 3])
def test_interrupted_at_every_point_it_asks_what_an_unbroken_sweep_asks(
    tmp_path: Path, sweep_from: ReadSweep, sampler: str, lag: int
) -> None:
    if sampler == "grid":
        sweep = sweep_from(TEXT, *GRID, "search.seeds=2", "search.trials=3")
    else:
        sweep = sweep_from(TEXT, f"search.sampler={sampler}", "search.seeds=2", "search.trials=7")
    unbroken = run_through(Home(tmp_path / "a"), sweep, reopen=False, lag=lag)
    interrupted = run_through(Home(tmp_path / "b"), sweep, reopen=True, lag=lag)
    assert unbroken == interrupted


def test_another_seed_asks_other_trials(tmp_path: Path, sweep_from: ReadSweep) -> None:
    first = run_through(Home(tmp_path / "a"), sweep_from(TEXT), reopen=False)
    second = run_through(Home(tmp_path / "b"), sweep_from(TEXT, "search.seed=8"), reopen=False)
    assert [trial[1] for trial in first] != [trial[1] for trial in second]


def test_tpe_learns_from_results(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT, "search={trials: 24, sampler: tpe}")
    rates = [row[1]["target.learning_rate"] for row in run_through(home, sweep, reopen=False)]
    assert sum(rates[12:]) / 12 > sum(rates[:10]) / 10


# -- going on -----------------------------------------------------------------------------


def test_a_running_trial_is_resumed_with_the_same_assignment(
    home: Home, ledger: Ledger, sweep: SweepSpec
) -> None:
    asked_trials = [ask(ledger, sweep) for _ in range(3)]
    ledger.begin_attempt(asked_trials[1].number)
    ledger.tell_complete(0, 0.5)
    again = open_ledger(home, sweep)
    assert again.running() == [1, 2]
    assert again.resume_trial(2, sweep, bounds) == asked_trials[2]
    taken = again.resume_trial(1, sweep, bounds)
    assert (taken.assignment, taken.seed) == (asked_trials[1].assignment, asked_trials[1].seed)
    assert taken.attempt == 1
    assert again.begin_attempt(1) == 2
    again.tell_complete(1, 0.4)
    assert again.trial(1).objective == 0.4


def test_a_torn_last_line_is_cut_and_nothing_else_is_lost(
    home: Home, ledger: Ledger, sweep: SweepSpec
) -> None:
    ask(ledger, sweep)
    before = ledger.trials()
    with home.ledger_journal("t").open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker_id": "x", "tri')
    assert load_ledger(home, "t").trials() == before
    again = open_ledger(home, sweep)
    assert again.trials() == before
    again.tell_complete(0, 0.5)
    ask(again, sweep)
    assert [trial.state for trial in load_ledger(home, "t").trials()] == ["complete", "running"]


@pytest.mark.parametrize(
    "change",
    [
        "search.trials=9",
        "search.concurrent=2",
        "failures.lost.times=0",
        "early_stop={method: asha, grace_examples: 5}",
        "resources.workers=2",
        "budget.hours=3",
        "progress.every=5",
        "places.tracking=http://localhost:5000",
    ],
)
def test_keys_that_do_not_decide_results_may_change(
    home: Home, sweep_from: ReadSweep, change: str
) -> None:
    open_ledger(home, sweep_from(TEXT))
    changed = sweep_from(TEXT, change)
    assert open_ledger(home, changed).sweep == json.loads(json.dumps(changed.resolved()))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("search.seed=8", "search.seed: 7 -> 8"),
        ("search.seeds=2", "search.seeds: 1 -> 2"),
        ("search.training_seed=7", "search.training_seed: 0 -> 7"),
        ("search.sampler=tpe", 'search.sampler: "random" -> "tpe"'),
        ("objective.metric=macro_f1", "objective.metric"),
        ("target.epochs=9", "space.target.epochs: 3 -> 9"),
        ("model=toy:2x64", "space.model"),
        ("data.seed=3", "space.data.seed"),
        ("resources={precision: bf16, zero_stage: 1}", "resources.precision"),
    ],
)
def test_keys_that_make_another_sweep_are_refused_by_name(
    home: Home, sweep_from: ReadSweep, change: str, expected: str
) -> None:
    open_ledger(home, sweep_from(TEXT))
    with pytest.raises(LedgerError) as caught:
        open_ledger(home, sweep_from(TEXT, change))
    assert expected in str(caught.value)
    assert "rename this one" in str(caught.value)
    assert open_ledger(home, sweep_from(TEXT)).sweep["search"]["seed"] == 7


def written_before(home: Home, sweep: SweepSpec, *keys: str) -> Ledger:
    """The ledger of a sweep as an xlt-ray wrote it that did not have these keys of ``search``."""
    ledger = open_ledger(home, sweep)
    resolved = ledger.sweep
    ledger.note("sweep", {**resolved, "search": {name: value for name, value
                          in resolved["search"].items() if name not in keys}})  # fmt: skip
    return ledger


def test_an_old_ledger_with_a_single_seed_keeps_it_for_training(
    home: Home, sweep_from: ReadSweep
) -> None:
    sweep = sweep_from(TEXT, "search.seeds=2")
    written_before(home, sweep, "training_seed")
    for again in (sweep, sweep_from(TEXT, "search.seeds=2", "search.training_seed=7")):
        ledger = open_ledger(home, again)
        assert continued(again, ledger).settings.search.training_seed == 7
    assert sweep_of_ledger(load_ledger(home, "t")).settings.search.training_seed == 7
    assert [ask(ledger, continued(sweep, ledger)).seed for _ in range(2)] == [7, 8]
    with pytest.raises(LedgerError, match=r"search\.training_seed: 7 -> 0"):
        open_ledger(home, sweep_from(TEXT, "search.seeds=2", "search.training_seed=0"))


def test_an_old_ledger_without_a_key_uses_its_default(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT)
    written_before(home, sweep, "concurrent", "first", "seeds")
    assert open_ledger(home, sweep).sweep == json.loads(json.dumps(sweep.resolved()))


def test_a_ledger_does_not_move_by_accident(home: Home, sweep_from: ReadSweep) -> None:
    url = f"places.ledger=sqlite:///{home.root.parent}/study.db"
    open_ledger(home, sweep_from(TEXT))
    with pytest.raises(LedgerError, match="is in this home"):
        open_ledger(home, sweep_from(TEXT, url))
    outside = sweep_from(TEXT, url, "name=u")
    ask(open_ledger(home, outside), outside)
    assert home.sweeps() == ["t", "u"]
    assert len(load_ledger(home, "u").trials()) == 1
    with pytest.raises(LedgerError, match=r"give places\.ledger as before"):
        open_ledger(home, sweep_from(TEXT, "name=u"))


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all/x.db", "nosuch://x"])
def test_an_unreachable_database_is_reported_in_one_line(
    home: Home, sweep_from: ReadSweep, url: str
) -> None:
    with pytest.raises(LedgerError, match=r"^t: the ledger cannot be opened") as caught:
        open_ledger(home, sweep_from(TEXT, f"places.ledger={url}"))
    assert "\n" not in str(caught.value)
    assert home.sweeps() == []


@pytest.mark.parametrize("content", ["", "not a journal\nat all\n"])
def test_a_file_that_is_not_a_ledger_is_refused(home: Home, content: str) -> None:
    home.ledgers.mkdir(parents=True)
    home.ledger_journal("t").write_text(content)
    with pytest.raises(LedgerError, match="cannot be opened"):
        load_ledger(home, "t")


def test_an_unknown_name_lists_the_known_ones(home: Home, sweep_from: ReadSweep) -> None:
    with pytest.raises(LedgerError, match="none yet"):
        load_ledger(home, "u")
    open_ledger(home, sweep_from(TEXT))
    with pytest.raises(LedgerError, match="there is no sweep 'u'; available: t"):
        load_ledger(home, "u")


def test_the_sweep_comes_back_from_its_ledger(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT, "search.first=[{model: toy:4x64}]", "evaluate.languages=[qab, no]")
    open_ledger(home, sweep)
    back = sweep_of_ledger(load_ledger(home, "t"))
    assert back.settings == sweep.settings
    assert json.dumps(back.resolved()) == json.dumps(sweep.resolved())
    more = sweep_of_ledger(load_ledger(home, "t"), ["search.trials=50"])
    assert more.settings.search.trials == 50
    open_ledger(home, more)


# -- telling ------------------------------------------------------------------------------


def test_a_reader_sees_all_that_was_written(home: Home, ledger: Ledger, sweep: SweepSpec) -> None:
    number = ask(ledger, sweep).number
    uses = [StageUse("target", "k" * 64, "target nli 10", False, 10, 1.5),
            StageUse("evaluate", "e" * 64, "evaluate", True)]  # fmt: skip
    ledger.begin_attempt(number)
    ledger.set_run_id(number, "run")
    assert ledger.report(number, 20, 0.25)
    assert ledger.report(number, 10, 0.125)
    assert not ledger.report(number, 20, 0.9)
    ledger.set_stages(number, uses)
    ledger.tell_complete(number, 0.75)
    ledger.note("started", 3)
    view = load_ledger(home, "t").trial(number)
    assert view.state == "complete"
    assert view.is_finished
    assert view.objective == 0.75
    assert view.curve == ((10, 0.125), (20, 0.25))
    assert view.stages == tuple(uses)
    assert view.evaluation_key == "e" * 64
    assert (view.attempts, view.mlflow_run_id, view.cause) == (1, "run", None)
    assert view.started is not None
    assert view.ended is not None
    assert load_ledger(home, "t").study.user_attrs["started"] == 3


def test_a_result_is_not_overwritten(ledger: Ledger, sweep: SweepSpec) -> None:
    ask(ledger, sweep)
    ledger.tell_complete(0, 0.75)
    ledger.tell_complete(0, 0.1)
    assert ledger.trial(0).objective == 0.75


def test_a_nan_objective_is_a_failure(ledger: Ledger, sweep: SweepSpec) -> None:
    ask(ledger, sweep)
    ledger.tell_complete(0, float("nan"))
    view = ledger.trial(0)
    assert (view.state, view.cause, view.objective) == ("failed", "nan", None)
    assert ledger.best() is None


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 2)])
def test_the_best_trial_is_the_best_complete_one(
    home: Home, sweep_from: ReadSweep, mode: str, best: int
) -> None:
    sweep = sweep_from(TEXT, f"objective.mode={mode}")
    ledger = open_ledger(home, sweep)
    for value in (0.5, 0.7, 0.0):
        ledger.tell_complete(ask(ledger, sweep).number, value)
    ledger.report(ask(ledger, sweep).number, 10, 5.0 if mode == "max" else -5.0)
    ledger.tell_pruned(3)
    winner = ledger.best()
    assert winner is not None
    assert winner.trial.number == best


def test_an_unknown_trial_is_refused(ledger: Ledger, sweep: SweepSpec) -> None:
    with pytest.raises(LedgerError, match="no trial 0; there are none"):
        ledger.trial(0)
    ask(ledger, sweep)
    with pytest.raises(LedgerError, match="no trial 1; the last one is 0"):
        ledger.trial(1)
    with pytest.raises(LedgerError, match="no trial -1"):
        ledger.trial(-1)


def test_failed_trials_are_queued_again_once(home: Home, sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT, "search.trials=2", "search.seeds=2")
    ledger = open_ledger(home, sweep)
    first = ask(ledger, sweep)
    ledger.begin_attempt(0)
    ledger.set_run_id(0, "run")
    ledger.tell_failed(0, "oom", "out of memory", "log")
    assert (ledger.trial(0).cause, ledger.trial(0).log) == ("oom", "log")
    assert ledger.enqueue_failed() == [0]
    assert ledger.enqueue_failed() == []
    again = ask(ledger, sweep)
    assert (again.assignment, again.seed, again.attempt) == (first.assignment, first.seed, 1)
    view = ledger.trial(again.number)
    assert (view.retry_of, view.mlflow_run_id, view.attempts) == (0, "run", 1)
    assert (view.configuration, view.repeat) == (0, 0)
    ledger.tell_failed(again.number, "oom", "out of memory")
    assert ledger.enqueue_failed() == [again.number]
    rest = []
    while (asked_trial := ledger.ask(sweep, bounds)) is not None:
        rest.append(asked_trial)
    identities = [
        (trial.configuration, trial.repeat) for trial in ledger.trials() if trial.retry_of is None
    ]
    assert sorted(identities) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def failed_ledger(home: Home, sweep_from: ReadSweep) -> tuple[Ledger, SweepSpec]:
    """Trial 0 is complete, 1 and 3 failed for nan, 2 for oom, 4 runs."""
    sweep = sweep_from(TEXT, "search.trials=5")
    ledger = open_ledger(home, sweep)
    for cause in ("", "nan", "oom", "nan"):
        number = ask(ledger, sweep).number
        if cause:
            ledger.tell_failed(number, cause, "x")
        else:
            ledger.tell_complete(number, 0.5)
    ask(ledger, sweep)
    return ledger, sweep


@pytest.mark.parametrize(
    ("retry", "numbers"),
    [
        (Retry(), [1, 2, 3]),
        (Retry(cause="nan"), [1, 3]),
        (Retry(trials=(3,)), [3]),
        (Retry(trials=(3, 1, 3)), [1, 3]),
        (Retry(cause="oom", trials=(2,)), [2]),
    ],
)
def test_failed_trials_are_chosen_by_cause_and_number(
    home: Home, sweep_from: ReadSweep, retry: Retry, numbers: list[int]
) -> None:
    ledger, _ = failed_ledger(home, sweep_from)
    assert ledger.enqueue_failed(retry) == numbers
    queued = [trial for trial in ledger.trials() if trial.state == "waiting"]
    assert [view.retry_of for view in queued] == numbers
    for view in queued:
        assert view.retry_of is not None
        assert view.seed == ledger.trial(view.retry_of).seed


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (Retry(trials=(0,)), "trial 0 is complete, not failed; failed: 1, 2, 3"),
        (Retry(trials=(1, 4)), "trial 4 is queued, not failed"),
        (Retry(trials=(9,)), "there is no trial 9; the last one is 4"),
        (Retry(cause="disk"), "no failed trial has the cause disk; available: nan (2), oom (1)"),
        (Retry(cause="oom", trials=(1,)), "trial 1 failed for another cause, nan"),
    ],
)
def test_what_cannot_be_retried_is_refused_and_nothing_is_queued(
    home: Home, sweep_from: ReadSweep, retry: Retry, expected: str
) -> None:
    ledger, _ = failed_ledger(home, sweep_from)
    before = ledger.trials()
    with pytest.raises(LedgerError) as caught:
        ledger.enqueue_failed(retry)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2
    assert ledger.trials() == before


def test_a_trial_that_was_retried_is_retried_by_its_last_number(
    home: Home, sweep_from: ReadSweep
) -> None:
    ledger, sweep = failed_ledger(home, sweep_from)
    ledger.enqueue_failed(Retry(trials=(2,)))
    with pytest.raises(LedgerError, match="trial 2 is run again as trial 5 already"):
        ledger.enqueue_failed(Retry(trials=(2,)))
    with pytest.raises(LedgerError, match=r"available: nan \(2\)"):
        ledger.enqueue_failed(Retry(cause="oom"))
    ledger.tell_failed(ask(ledger, sweep).number, "oom", "x")
    assert ledger.enqueue_failed(Retry(trials=(5,))) == [5]


def test_without_failed_trials_no_cause_can_be_retried(ledger: Ledger) -> None:
    assert ledger.enqueue_failed() == []
    with pytest.raises(LedgerError, match="no failed trial"):
        ledger.enqueue_failed(Retry(cause="oom"))


# -- other eyes -----------------------------------------------------------------------------


def test_the_ledger_opens_in_the_optuna_dashboard(
    home: Home, ledger: Ledger, sweep: SweepSpec
) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    ledger.tell_complete(ask(ledger, sweep).number, 0.5)
    app = dashboard.wsgi(load_ledger(home, "t").study._storage)
    status: list[str] = []
    body = b"".join(
        app(
            {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/api/studies",
                "SERVER_NAME": "x",
                "SERVER_PORT": "80",
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(),
                "wsgi.errors": io.StringIO(),
            },
            lambda line, *_: status.append(line),
        )
    )
    assert status == ["200 OK"]
    (summary,) = json.loads(body)["study_summaries"]
    assert summary["study_name"] == "t"


def test_late_run_ids_are_all_known_and_written_in_parts(
    home: Home, ledger: Ledger, sweep: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "RUNS_PER_ATTRIBUTE", 2)
    for _ in range(5):
        ledger.tell_complete(ask(ledger, sweep).number, 0.5)
    # As one attribute holds them that was written before there were several.
    ledger.note(book.LATE_RUNS, {"1": "run 1", "2": "another"})
    for number in (3, 0, 4, 2):
        ledger.trial(number)
        ledger.set_run_id(number, f"run {number}")
    for reader in (ledger, load_ledger(home, "t")):
        assert [view.mlflow_run_id for view in reader.trials()] == [f"run {n}" for n in range(5)]
    written = {name: runs for name, runs in ledger.study.user_attrs.items() if ":" in name}
    assert {name: len(runs) for name, runs in written.items()} == {
        "mlflow_run_ids:0": 2, "mlflow_run_ids:2": 2, "mlflow_run_ids:4": 1,
    }  # fmt: skip


# -- a driver that dies at an odd moment ------------------------------------------------------


@pytest.mark.parametrize(("sampler", "num_before"), [("random", 3), ("tpe", 3), ("tpe", 13)])
@pytest.mark.parametrize("num_drawn", [0, 1, 2])
def test_a_driver_that_dies_while_it_asks_changes_no_point(
    tmp_path: Path,
    sweep_from: ReadSweep,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    num_before: int,
    num_drawn: int,
) -> None:
    sweep = sweep_from(TEXT, f"search.sampler={sampler}", "search.trials=20")

    def begun(name: str) -> Ledger:
        ledger = open_ledger(Home(tmp_path / name), sweep)
        for _ in range(num_before):
            asked_trial = ask(ledger, sweep)
            ledger.tell_complete(asked_trial.number, objective_of(asked_trial))
        return ledger

    unbroken = begun("a")
    dying = begun("b")
    assert unbroken.trials()[-1].assignment == dying.trials()[-1].assignment
    suggest, drawn = book.suggest, []

    def suggest_until_death(*arguments: Any) -> Any:
        if len(drawn) == num_drawn:
            raise KeyboardInterrupt
        drawn.append(suggest(*arguments))
        return drawn[-1]

    monkeypatch.setattr(book, "suggest", suggest_until_death)
    with pytest.raises(KeyboardInterrupt):
        dying.ask(sweep, bounds)
    monkeypatch.setattr(book, "suggest", suggest)
    again = open_ledger(Home(tmp_path / "b"), sweep)
    assert again.running() == [num_before]
    asked_trial = again.resume_trial(num_before, sweep, bounds)
    assert asked_trial == ask(unbroken, sweep)
    assert again.trial(num_before).assignment == asked_trial.assignment
    assert again.resume_trial(num_before, sweep, bounds) == asked_trial


def test_a_retry_has_not_begun_before_its_own_first_attempt(
    home: Home, sweep_from: ReadSweep
) -> None:
    sweep = sweep_from(TEXT, "search.trials=1")
    ledger = open_ledger(home, sweep)
    first = ask(ledger, sweep).number
    assert not ledger.has_begun(first)
    ledger.begin_attempt(first)
    assert ledger.has_begun(first)
    ledger.tell_failed(first, "nan", "x")
    ledger.enqueue_failed()
    again = ask(ledger, sweep).number
    assert not ledger.has_begun(again)
    ledger.begin_attempt(again)
    assert ledger.has_begun(again)


def test_a_trial_that_continued_has_no_cause_of_failure(ledger: Ledger, sweep: SweepSpec) -> None:
    number = ask(ledger, sweep).number
    # Its driver died while it wrote the failure down.
    for name in ("cause", "message", "log"):
        ledger._trial(number).set_user_attr(name, "nan")
    for end in (lambda: None, lambda: ledger.tell_complete(number, 0.5)):
        end()
        view = ledger.trial(number)
        assert (view.cause, view.message, view.log) == (None, "", "")
