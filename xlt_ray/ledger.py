"""The ledger: one Optuna study, the only durable truth about the trials of a sweep.

Parameters, state, attempts, causes of failure, scores on the way, keys of stages and the MLflow
run of every trial are in it; MLflow and reports are projections that can be rebuilt. Only the
driver of a sweep writes it. What the next trial is follows from the ledger alone (the sampler is
seeded by sweep seed and trial number), so a sweep that was killed and started again asks the
same trials as one that ran through.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, Trial, TrialState

from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.spec.source import parse_document
from xlt_ray.spec.space import (
    Assignment,
    Choice,
    FloatRange,
    IntRange,
    Knob,
    ModelBounds,
    Value,
    draw,
    extremes,
    grid,
)
from xlt_ray.spec.sweep import SweepSpec, sweep_of
from xlt_ray.stages.canonical import differences

State = Literal["waiting", "running", "complete", "pruned", "failed"]

_STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}

MAY_CHANGE = ("search.trials", "search.concurrent", "search.retries", "early_stop", "resources",
              "budget", "progress", "places")  # fmt: skip
"""What may differ when a sweep is continued; ``resources.precision`` may not."""


@dataclass(frozen=True)
class StageUse:
    """One stage of one trial: found in the store, or trained by this trial."""

    kind: str
    key: str
    label: str
    reused: bool
    examples: int = 0
    """Examples that this trial trained to make it; 0 where it was reused."""
    seconds: float = 0.0


@dataclass(frozen=True)
class TrialView:
    """A trial as the ledger has it."""

    number: int
    state: State
    assignment: Mapping[str, Value]
    configuration: int
    repeat: int
    seed: int
    objective: float | None
    curve: tuple[tuple[int, float], ...]
    """(examples seen in the target stage, objective metric on the source dev set)."""
    attempts: int
    cause: str | None
    message: str
    log: str
    stages: tuple[StageUse, ...]
    mlflow_run_id: str | None
    retry_of: int | None
    started: datetime.datetime | None
    ended: datetime.datetime | None

    @property
    def is_finished(self) -> bool:
        return self.state in ("complete", "pruned", "failed")

    @property
    def evaluation_key(self) -> str | None:
        """Key of the stage that holds the scores."""
        return next((one.key for one in self.stages if one.kind == "evaluate"), None)


@dataclass(frozen=True)
class Ticket:
    """What a trial is to be run with."""

    number: int
    assignment: Assignment
    seed: int
    attempt: int


class Ledger:
    """One sweep's study. Open it with :func:`open_ledger` or :func:`load_ledger`."""

    def __init__(self, study: optuna.Study, name: str) -> None:
        self.study = study
        self.name = name
        self._live: dict[int, Trial] = {}

    # -- reading ----------------------------------------------------------------------

    @property
    def sweep(self) -> dict[str, Any]:
        """The resolved sweep that this ledger belongs to."""
        found: dict[str, Any] = self.study.user_attrs["sweep"]
        return found

    @property
    def attributes(self) -> dict[str, Any]:
        """What was noted about the sweep as a whole."""
        return dict(self.study.user_attrs)

    def note(self, key: str, value: Any) -> None:
        self.study.set_user_attr(key, value)

    def trials(self) -> list[TrialView]:
        """All trials, by number."""
        return [_view(one) for one in self.study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> TrialView:
        """One trial; raises LedgerError where there is none of this number."""
        trials = self.study.get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            raise LedgerError(
                f"{self.name}: there is no trial {number}; "
                + (f"the last one is {len(trials) - 1}" if trials else "there are none yet")
            )
        return _view(trials[number])

    def best(self) -> TrialView | None:
        """The complete trial with the best objective, or None."""
        complete = [one for one in self.trials() if one.state == "complete"]
        sign = 1.0 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        return max(complete, key=lambda one: sign * (one.objective or 0.0), default=None)

    # -- asking -----------------------------------------------------------------------

    def ask(self, sweep: SweepSpec, model_bounds: ModelBounds) -> Ticket | None:
        """The next trial of the sweep, RUNNING from now on; None when all have been asked."""
        trials = self.study.get_trials(deepcopy=False)
        self._enqueue_repeats(sweep, trials)
        trials = self.study.get_trials(deepcopy=False)
        if not any(one.state == TrialState.WAITING for one in trials):
            configuration = 1 + max((_configuration(one) for one in trials), default=-1)
            if configuration >= sweep.settings.search.trials:
                return None
            fixed = self._prescribed(configuration, sweep, model_bounds)
            if fixed is None:
                return None
            self.study.enqueue_trial(
                fixed, user_attrs=_identity(configuration, 0, sweep), skip_if_exists=False
            )
        waiting = min(
            one.number
            for one in self.study.get_trials(deepcopy=False)
            if one.state == TrialState.WAITING
        )
        self.study.sampler = _sampler(sweep, waiting)
        trial = self.study.ask()
        self._live[trial.number] = trial
        return self._ticket(trial, sweep, model_bounds)

    def take_up(self, number: int, sweep: SweepSpec, model_bounds: ModelBounds) -> Ticket:
        """The ticket of a RUNNING trial whose process is gone: the same assignment again."""
        self.study.sampler = _sampler(sweep, number)
        return self._ticket(self._trial(number), sweep, model_bounds)

    def running(self) -> list[int]:
        """Numbers of trials that are RUNNING, by this or by a dead driver."""
        return [one.number for one in self.trials() if one.state == "running"]

    def enqueue_failed(self) -> list[int]:
        """Queue every failed trial that has not been queued again yet; their numbers."""
        views = self.trials()
        retried = {one.retry_of for one in views}
        failed = [
            one.number for one in views if one.state == "failed" and one.number not in retried
        ]
        for number in failed:
            self._enqueue_retry(number)
        return failed

    def _enqueue_retry(self, number: int) -> None:
        """Queue a failed trial's parameters again, as a new trial that names the old one.

        Optuna does not reopen a finished trial. The new one continues its MLflow run.
        """
        view = self.trial(number)
        old = self.study.get_trials(deepcopy=False)[number]
        self.study.enqueue_trial(
            dict(old.params),
            user_attrs={
                "configuration": view.configuration,
                "repeat": view.repeat,
                "seed": view.seed,
                "retry_of": number,
                "attempts": view.attempts,
                "mlflow_run_id": view.mlflow_run_id,
            },
        )

    # -- telling ----------------------------------------------------------------------

    def begin_attempt(self, number: int) -> int:
        """Count one more attempt; returns its number, from 1."""
        attempt = self.trial(number).attempts + 1
        self._trial(number).set_user_attr("attempts", attempt)
        return attempt

    def report(self, number: int, examples: int, value: float) -> bool:
        """Note the objective metric at a point of the target stage; False where it was known."""
        trial = self._trial(number)
        known = self.study.get_trials(deepcopy=False)[number].intermediate_values
        if examples in known:
            return False
        trial.report(value, examples)
        return True

    def should_stop_early(self, number: int, sweep: SweepSpec) -> bool:
        """Whether asynchronous successive halving ends this trial at its last report."""
        stop = sweep.settings.early_stop
        if stop is None:
            return False
        # Rungs are kept in the study itself, so they survive the driver.
        self.study.pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=stop.grace_examples, reduction_factor=stop.reduction
        )
        return self._trial(number).should_prune()

    def set_stages(self, number: int, stages: list[StageUse]) -> None:
        self._trial(number).set_user_attr("stages", [asdict(one) for one in stages])

    def set_run_id(self, number: int, run_id: str) -> None:
        self._trial(number).set_user_attr("mlflow_run_id", run_id)

    def tell_complete(self, number: int, objective: float) -> None:
        """Final, with its objective; a NaN objective is a failure."""
        if math.isnan(objective):
            self.tell_failed(number, "nan", "the objective is not a number")
        else:
            self._tell(number, TrialState.COMPLETE, objective)

    def tell_pruned(self, number: int) -> None:
        """Final, stopped early; its last reported value counts."""
        self._tell(number, TrialState.PRUNED)

    def tell_failed(self, number: int, cause: str, message: str, log: str = "") -> None:
        """Final, with the cause in one word, one line that explains it, and its last log lines."""
        trial = self._trial(number)
        trial.set_user_attr("cause", cause)
        trial.set_user_attr("message", message)
        trial.set_user_attr("log", log)
        self._tell(number, TrialState.FAIL)

    # -- inside -----------------------------------------------------------------------

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        self.study.tell(number, value, state=state, skip_if_finished=True)
        self._live.pop(number, None)

    def _trial(self, number: int) -> Trial:
        if number not in self._live:
            storage = self.study._storage
            trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
            sampler, self.study.sampler = self.study.sampler, optuna.samplers.RandomSampler(seed=0)
            self._live[number] = Trial(self.study, trial_id)
            self.study.sampler = sampler
        return self._live[number]

    def _ticket(self, trial: Trial, sweep: SweepSpec, model_bounds: ModelBounds) -> Ticket:
        _, assignment = draw(sweep.space, lambda knob: _suggest(trial, knob), model_bounds)
        attributes = trial.user_attrs
        return Ticket(
            trial.number, assignment, int(attributes["seed"]), int(attributes.get("attempts", 0))
        )

    def _enqueue_repeats(self, sweep: SweepSpec, trials: list[FrozenTrial]) -> None:
        """Queue the further seeds of every configuration whose parameters are known."""
        seeds = sweep.settings.search.seeds
        there = {(_configuration(one), _repeat(one)) for one in trials}
        for one in trials:
            if _repeat(one) or one.state == TrialState.WAITING or _is_retry(one):
                continue
            for repeat in range(1, seeds):
                if (_configuration(one), repeat) not in there:
                    self.study.enqueue_trial(
                        dict(one.params),
                        user_attrs=_identity(_configuration(one), repeat, sweep),
                    )

    def _prescribed(
        self, configuration: int, sweep: SweepSpec, model_bounds: ModelBounds
    ) -> dict[str, Value] | None:
        """Parameters that are fixed beforehand; None where a grid is exhausted."""
        search = sweep.settings.search
        if configuration < len(search.first):
            return _parameters(sweep, search.first[configuration], model_bounds)
        if search.sampler != "grid":
            return {}
        points = grid(sweep.space, model_bounds)
        point = next(itertools.islice(points, configuration - len(search.first), None), None)
        return None if point is None else _parameters(sweep, point, model_bounds)


def open_ledger(home: Home, sweep: SweepSpec) -> Ledger:
    """The ledger of a sweep, made where there is none.

    Raises:
        LedgerError: the storage cannot be reached, or the ledger belongs to another sweep of
            this name; the message names the fields that differ.
    """
    name = sweep.name
    url = sweep.settings.places.ledger
    _refuse_other_place(home, name, url)
    home.ledgers.mkdir(parents=True, exist_ok=True)
    mode = sweep.settings.objective.mode
    with _quiet():
        try:
            study = optuna.create_study(
                study_name=name,
                storage=_storage(home, name, url, write=True),
                direction="maximize" if mode == "max" else "minimize",
                load_if_exists=True,
            )
        except _failures(url) as error:
            raise _unopened(name, error) from error
    if url is not None:
        home.ledger_url(name).write_text(url, encoding="utf-8")
    ledger = Ledger(study, name)
    resolved = json.loads(json.dumps(sweep.resolved()))
    if "sweep" in study.user_attrs:
        _refuse_other(ledger, resolved)
    ledger.note("sweep", resolved)
    return ledger


def load_ledger(home: Home, name: str) -> Ledger:
    """The ledger of a sweep that exists, for reading.

    Raises:
        LedgerError: there is none of this name; the message says which there are. Or it cannot
            be read, or its driver died before it held anything.
    """
    pointer = home.ledger_url(name)
    url = pointer.read_text(encoding="utf-8").strip() if pointer.exists() else None
    if url is None and not home.ledger_journal(name).exists():
        there = ", ".join(home.sweeps()) or "none yet"
        raise LedgerError(f"{home.root}: there is no sweep {name!r}; there is: {there}")
    with _quiet():
        try:
            study = optuna.load_study(
                study_name=name, storage=_storage(home, name, url, write=False)
            )
        except _failures(url) as error:
            raise _unopened(name, error) from error
    if "sweep" not in study.user_attrs:
        raise LedgerError(f"{name}: its ledger holds no sweep; run its sweep file again")
    return Ledger(study, name)


def sweep_of_ledger(ledger: Ledger, overrides: Iterable[str] = ()) -> SweepSpec:
    """The sweep that a ledger keeps, with ``KEY=VALUE`` overrides applied."""
    resolved = ledger.sweep
    tree = {**{key: value for key, value in resolved.items() if key != "space"}}
    tree |= resolved["space"]
    text = json.dumps(tree, ensure_ascii=False)
    return sweep_of(parse_document(text, f"ledger of {ledger.name}", overrides))


class _FileLock(BaseJournalFileLock):
    """A lock that the kernel drops with its holder, so that kill -9 leaves nothing behind."""

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_suffix(".lock")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _storage(home: Home, name: str, url: str | None, *, write: bool) -> Any:
    if url is not None:
        return url
    journal = home.ledger_journal(name)
    if write:
        _drop_torn_line(journal)
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=_FileLock(journal)))


def _drop_torn_line(journal: Path) -> None:
    """Cut a last line that a dying driver left without its end; nobody has read it."""
    if not journal.exists():
        return
    lock = _FileLock(journal)
    lock.acquire()
    try:
        content = journal.read_bytes()
        if content and not content.endswith(b"\n"):
            with journal.open("r+b") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _failures(url: str | None) -> tuple[type[Exception], ...]:
    """What Optuna raises where a storage cannot be reached or read."""
    known = (OSError, ImportError, ValueError, KeyError)
    if url is None:
        return known
    from sqlalchemy.exc import SQLAlchemyError

    return (*known, SQLAlchemyError)


def _unopened(name: str, error: Exception) -> LedgerError:
    reason = (str(error.args[0] if error.args else error).splitlines() or [""])[0]
    return LedgerError(f"{name}: the ledger cannot be opened ({reason})")


def _refuse_other_place(home: Home, name: str, url: str | None) -> None:
    """A ledger stays where it is: trials of one sweep in two ledgers would never be compared."""
    if url is None and home.ledger_url(name).exists():
        raise LedgerError(
            f"{name}: its ledger is a database outside this home; give places.ledger as before"
        )
    if url is not None and home.ledger_journal(name).exists():
        raise LedgerError(
            f"{name}: its ledger is in this home; leave places.ledger out, "
            "or give this sweep another name"
        )


def _refuse_other(ledger: Ledger, resolved: dict[str, Any]) -> None:
    changed = [
        f"{path}: {_short(before)} -> {_short(after)}"
        for path, before, after in differences(ledger.sweep, resolved)
        if path == "resources.precision" or not path.startswith(MAY_CHANGE)
    ]
    if changed:
        raise LedgerError(
            f"{ledger.name}: there is a sweep of this name already, and it differs in "
            + "; ".join(changed[:10])
            + "; give this one another name (finished stages are shared all the same), "
            "or undo the change"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def _identity(configuration: int, repeat: int, sweep: SweepSpec) -> dict[str, Any]:
    return {
        "configuration": configuration,
        "repeat": repeat,
        "seed": sweep.settings.search.seed + repeat,
    }


def _configuration(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("configuration", -1))


def _repeat(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("repeat", 0))


def _is_retry(trial: FrozenTrial) -> bool:
    return "retry_of" in trial.user_attrs


def _sampler(sweep: SweepSpec, number: int) -> optuna.samplers.BaseSampler:
    search = sweep.settings.search
    # Seeded by trial, not by process: a continued sweep draws what an unbroken one would.
    seed = (search.seed * 1_000_003 + number) % 2**31
    if search.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    with _quiet():
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        )


def _suggest(trial: Trial, knob: Knob) -> Value:
    found = knob.distribution
    if isinstance(found, Choice):
        return trial.suggest_categorical(knob.parameter, list(found.labels()))
    if isinstance(found, FloatRange):
        return trial.suggest_float(knob.parameter, found.low, found.high, log=found.log)
    assert isinstance(found, IntRange)
    low, high = cast(int, found.low), cast(int, found.high)
    return trial.suggest_int(knob.parameter, low, high, step=found.step, log=found.log)


def _has(knob: Knob, value: Value) -> bool:
    """Whether a value lies in a distribution; a layer of one model may be none of another."""
    found = knob.distribution
    if isinstance(found, Choice):
        return value in found.labels()
    if isinstance(found, IntRange):
        return value in found.values()
    return isinstance(value, int | float) and found.low <= value <= found.high


def _parameters(
    sweep: SweepSpec, point: Mapping[str, Value], model_bounds: ModelBounds
) -> dict[str, Value]:
    """Sampler parameters of a (partial) assignment, for every model it may meet."""
    found: dict[str, Value] = {}

    def pick_for(model: Value) -> Callable[[Knob], Value]:
        def pick(knob: Knob) -> Value:
            if knob.path in point and _has(knob, point[knob.path]):
                found[knob.parameter] = point[knob.path]
                return point[knob.path]
            return model if knob.path == "model" else extremes(knob.distribution)[0]

        return pick

    model = sweep.space.tree.get("model")
    for label in model.labels() if isinstance(model, Choice) else (None,):
        draw(sweep.space, pick_for(label), model_bounds)
    return found


def _view(trial: FrozenTrial) -> TrialView:
    attributes = trial.user_attrs
    value = trial.value if trial.state == TrialState.COMPLETE else None
    return TrialView(
        number=trial.number,
        state=_STATES[trial.state],
        assignment={name.partition(" in ")[0]: value for name, value in trial.params.items()},
        configuration=_configuration(trial),
        repeat=_repeat(trial),
        seed=int(attributes.get("seed", 0)),
        objective=value,
        curve=tuple(sorted(trial.intermediate_values.items())),
        attempts=int(attributes.get("attempts", 0)),
        cause=attributes.get("cause"),
        message=attributes.get("message", ""),
        log=attributes.get("log", ""),
        stages=tuple(StageUse(**one) for one in attributes.get("stages", ())),
        mlflow_run_id=attributes.get("mlflow_run_id"),
        retry_of=attributes.get("retry_of"),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces its experimental features and every study; users did not ask."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
