"""The book itself: asking, reading and telling trials of one Optuna study.

Which trials have been asked and which wait: read from a study once, then kept up.

Only the driver of a sweep adds trials to its study, and only through its
:class:`~xlt_ray.ledger.ledger.Ledger`, so nothing has to be read again before every ask.

Which failed trials are run again.

A ledger that is asked without consequences: what a sweep would be asked next.

It lives in memory and begins as a copy, so :meth:`~xlt_ray.ledger.Ledger.ask` is the very
function that a running sweep calls, and nothing of the home is touched.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from xlt_ray.config.search_space import Assignment, ModelBounds, Value, draw
from xlt_ray.config.sweep import SweepSpec, completed
from xlt_ray.errors import LedgerError
from xlt_ray.ledger.halving import JUDGED, LENGTH, Halving, falls_behind
from xlt_ray.ledger.sampler import (
    Configuration,
    History,
    Proposer,
    configuration_from,
    identity,
    parameters_of,
    quiet,
    suggest,
)
from xlt_ray.ledger.views import (
    OCCUPIED,
    OUTDATED,
    AskedTrial,
    Occupation,
    SignOfLife,
    StageUse,
    Standing,
    TrialView,
    Winner,
    assignment_of,
    by_path,
    configuration_of,
    is_retry,
    points_of,
    repeat_of,
    standings,
    view_of,
    winner,
)
from xlt_ray.store.canonical import from_fields


class PendingTrials:
    """The trials of a study, as far as what is asked next depends on them.

    Args:
        seeds: trials of each configuration.
        is_first_alone: whether the other repeats of a configuration are asked when its first one
            is complete, and not as soon as that one is handed out.
    """

    def __init__(
        self, trials: Iterable[FrozenTrial], seeds: int, *, is_first_alone: bool = False
    ) -> None:
        self.seeds = seeds
        self.is_first_alone = is_first_alone
        self.last_configuration = -1
        self.configurations: set[Configuration] = set()
        """All that were asked."""
        self._there: set[tuple[int, int]] = set()
        self._num_trials = 0
        self._waiting: deque[int] = deque()
        self._unrepeated: dict[int, FrozenTrial] = {}
        """Configuration -> the trial of which repeats are to be added."""
        self._open: set[int] = set()
        """First repeats at work."""
        for trial in trials:
            self.add(configuration_of(trial), repeat_of(trial), assignment_of(trial))
            if trial.state != TrialState.WAITING:
                self._waiting.pop()
                self.note(trial)

    def add(self, configuration: int, repeat: int, assignment: Mapping[str, Value]) -> None:
        """A trial that waits was added, with the next number."""
        self._waiting.append(self._num_trials)
        self._num_trials += 1
        self.last_configuration = max(self.last_configuration, configuration)
        self.configurations.add(configuration_from(assignment))
        self._there.add((configuration, repeat))

    @property
    def first_waiting(self) -> int | None:
        """Number of the trial that is handed out next, or None."""
        return self._waiting[0] if self._waiting else None

    @property
    def awaits_first_repeats(self) -> bool:
        """Whether the end of a trial at work may be followed by repeats of its configuration."""
        return self.is_first_alone and self.seeds > 1 and bool(self._open)

    def mark_asked(self, trial: FrozenTrial) -> None:
        """The first that waits is handed out."""
        self._waiting.popleft()
        self.note(trial)

    def note(self, trial: FrozenTrial) -> None:
        """The state of a trial that was handed out has changed."""
        if self.seeds == 1 or repeat_of(trial):
            return
        if trial.state == TrialState.RUNNING:
            self._open.add(trial.number)
        else:
            self._open.discard(trial.number)
        if self.is_first_alone:
            is_to_be_repeated = trial.state == TrialState.COMPLETE
        else:
            # Where early stopping was given up meanwhile, what it ended is not taken up again.
            is_to_be_repeated = not is_retry(trial) and trial.state != TrialState.PRUNED
        if is_to_be_repeated:
            self._unrepeated[configuration_of(trial)] = trial

    def missing_repeats(self) -> list[tuple[FrozenTrial, int]]:
        """Every repeat that is to be added, with the trial that it repeats; told once."""
        found = [
            (trial, repeat)
            for configuration, trial in sorted(self._unrepeated.items())
            for repeat in range(1, self.seeds)
            if (configuration, repeat) not in self._there
        ]
        self._unrepeated.clear()
        return found


SHOWN = 20
"""Trials that a line names."""


@dataclass(frozen=True)
class Retry:
    """Which failed trials are to be run again: all of them, unless told otherwise."""

    cause: str = ""
    """Those that failed for this cause."""
    trials: tuple[int, ...] = ()
    """Those of these numbers."""


def still_failed(views: Sequence[TrialView]) -> list[TrialView]:
    """The failed trials that have not been queued again, by number."""
    retried = {view.retry_of for view in views}
    return [view for view in views if view.state == "failed" and view.number not in retried]


def by_cause(failed: Sequence[TrialView]) -> dict[str, list[TrialView]]:
    """Failed trials by their cause, the most frequent one first."""
    causes = Counter(one.cause or "bug" for one in failed).most_common()
    return {cause: [one for one in failed if (one.cause or "bug") == cause] for cause, _ in causes}


def again(name: str, cause: str) -> str:
    """The command that runs the trials of a sweep again that failed for a cause."""
    return f"xlt resume {name} --where {cause}"


def failures_told(views: Sequence[TrialView], name: str) -> list[str]:
    """One line for every cause for which trials have failed and were not run again: which they
    are, and the command that runs them again."""
    return [
        f"{len(alike)} trial{'s' * (len(alike) > 1)} failed for {cause} "
        f"({', '.join(str(one.number) for one in alike[:SHOWN])}"
        f"{', ...' * (len(alike) > SHOWN)}); again: {again(name, cause)}"
        for cause, alike in by_cause(still_failed(views)).items()
    ]


def retried(
    name: str, views: Sequence[TrialView], retry: Retry, driver: str = ""
) -> list[TrialView]:
    """The failed trials of a sweep that ``retry`` names and that have not been queued again yet.

    Args:
        driver: as that of :func:`~xlt_ray.ledger.views.standings`.

    Raises:
        LedgerError: a trial that was named has not failed, not for the cause that was given, or is
            queued again already; or no trial has failed for that cause.
    """
    failed = still_failed(views)
    if retry.trials:
        _refuse_unfailed(name, views, retry, driver)
        return [one for one in failed if one.number in retry.trials]
    if not retry.cause:
        return failed
    causes = Counter(one.cause for one in failed)
    if retry.cause not in causes:
        there = ", ".join(f"{cause} ({number})" for cause, number in causes.most_common())
        raise LedgerError(
            f"{name}: no failed trial has the cause {retry.cause}; "
            f"there is: {there or 'no failed trial'}"
        )
    return [one for one in failed if one.cause == retry.cause]


def _refuse_unfailed(name: str, views: Sequence[TrialView], retry: Retry, driver: str) -> None:
    by_number = {view.number: view for view in views}
    states = standings(views, driver=driver)
    for number in retry.trials:
        later = next((view.number for view in views if view.retry_of == number), None)
        if number not in by_number:
            last = max(by_number, default=-1)
            there = f"the last one is {last}" if by_number else "there are none yet"
            raise LedgerError(f"{name}: there is no trial {number}; {there}")
        if states[number] != "failed":
            numbers = ", ".join(str(one.number) for one in still_failed(views)) or "none"
            problem = f"is {states[number]}, not failed; failed: {numbers}"
        elif later is not None:
            problem = f"is run again as trial {later} already"
        elif retry.cause and by_number[number].cause != retry.cause:
            problem = f"failed for another cause, {by_number[number].cause}"
        else:
            continue
        raise LedgerError(f"{name}: trial {number} {problem}")


LATE_RUNS = "mlflow_run_ids"
"""Attributes of the study: MLflow runs of trials that had ended when MLflow named them, so many in
each, since an attribute is written as a whole."""
RUNS_IN_ONE = 100
REPEATED = ("configuration", "repeat", "seed", "facts", "path", "attempts", "mlflow_run_id")
"""What a retry takes over from the failed trial."""
SIGN = "sign_of_life"
"""Attribute of the study: the fields of the last :class:`SignOfLife`."""


class Ledger:
    """One sweep's study. Open it with :func:`open_ledger` or :func:`load_ledger`."""

    def __init__(
        self, study: optuna.Study, name: str, set_aside: Path | None = None, driver: str = ""
    ) -> None:
        self.study = study
        self.name = name
        self.driver = driver
        """Token of the lease by which a living driver has this sweep; empty where none does."""
        self.set_aside = set_aside
        """The file as it was, where a part of it was damaged: what it said is asked again."""
        self.history = History()
        """What ``tpe`` looks at."""
        self.is_exhausted = False
        """Whether an ask has found no configuration that was not asked already."""
        self._live: dict[int, Trial] = {}
        self._ended: dict[int, TrialView] = {}
        self._asked: PendingTrials | None = None
        self._proposer = Proposer(study)
        self._late_runs: dict[int, str] | None = None
        self.news: tuple[str, ...] = ()
        """What is to be said of this start."""
        self.facts = 0
        """Number of the set that trials are made with from now on; 0 of none."""
        self.keys_of: Callable[[Assignment, int], list[str]] = lambda *_: []
        """From an assignment and a seed to the path that a trial is added with."""

    # -- reading ----------------------------------------------------------------------

    @property
    def sweep(self) -> dict[str, Any]:
        """The resolved sweep that this ledger belongs to, with all keys that there are today."""
        return completed(self.study.user_attrs["sweep"])

    @property
    def identity(self) -> str:
        """By which its runs are known among those of other ledgers with a sweep of this name;
        empty of a ledger that no driver has opened since there are identities."""
        return str(self.study.user_attrs.get("identity", ""))

    def note(self, key: str, value: Any) -> None:
        self.study.set_user_attr(key, value)

    def trials(self) -> list[TrialView]:
        """All trials, by number; those at work are counted up to their driver's last sign."""
        noted = self.study.user_attrs.get(SIGN)
        sign = None if noted is None else from_fields(SignOfLife, noted)
        return [self._view(trial, sign) for trial in self.study.get_trials(deepcopy=False)]

    def standings(self) -> dict[int, Standing]:
        """How every trial stands now, by number."""
        return standings(self.trials(), driver=self.driver)

    def trial(self, number: int) -> TrialView:
        """One trial; raises LedgerError where there is none of this number."""
        try:
            return self._view(self._frozen(number))
        except KeyError:
            last = len(self.study.get_trials(deepcopy=False)) - 1
            raise LedgerError(
                f"{self.name}: there is no trial {number}; "
                + (f"the last one is {last}" if last >= 0 else "there are none yet")
            ) from None

    def best(self) -> Winner | None:
        """What the sweep selects; None before any trial is complete."""
        seeds, mode = self.sweep["search"]["seeds"], self.sweep["objective"]["mode"]
        return winner(self.trials(), seeds, mode)

    # -- asking -----------------------------------------------------------------------

    def ask(self, sweep: SweepSpec, model_bounds: ModelBounds) -> AskedTrial | None:
        """The next trial of the sweep, RUNNING from now on; None when there is none now.

        Repeats come with their configuration; with early stopping those after the first one come
        when that one is complete (:attr:`awaits_first_repeats`).
        """
        asked = self._asked_by(sweep)
        for repeated, repeat in asked.missing_repeats():
            self._enqueue(dict(repeated.params), configuration_of(repeated), repeat, sweep)
        if asked.first_waiting is None:
            configuration = asked.last_configuration + 1
            if configuration >= sweep.settings.search.trials or self.is_exhausted:
                return None
            assignment = self._proposer.configuration(
                configuration, sweep, self.history, asked.configurations, model_bounds
            )
            if assignment is None:
                self.is_exhausted = True
                return None
            parameters = parameters_of(sweep, assignment, model_bounds)
            self._enqueue(parameters, configuration, 0, sweep)
        number = asked.first_waiting
        assert number is not None
        trial = self._begun(number)
        if trial is None:
            # Another tool has changed the study: what waits is looked up again.
            self._asked = None
            return self.ask(sweep, model_bounds)
        self._live[number] = trial
        ticket = self._ticket(trial, sweep, model_bounds)
        asked.mark_asked(self._frozen(number))
        return ticket

    @property
    def awaits_first_repeats(self) -> bool:
        """Whether trials at work decide if there is more to be asked."""
        return self._asked is not None and self._asked.awaits_first_repeats

    def _asked_by(self, sweep: SweepSpec) -> PendingTrials:
        seeds, is_first_alone = sweep.settings.search.seeds, sweep.settings.early_stop is not None
        if self._asked is None or (self._asked.seeds, self._asked.is_first_alone) != (
            seeds, is_first_alone,
        ):  # fmt: skip
            trials = self.study.get_trials(deepcopy=False)
            self._asked = PendingTrials(trials, seeds, is_first_alone=is_first_alone)
        return self._asked

    def _begun(self, number: int) -> Trial | None:
        """A trial that waits, RUNNING from now on; None where it waits no more.

        As Optuna's own ``ask``, which looks through all trials for the first one that waits.
        """
        study, storage = self.study, self.study._storage
        study._thread_local.cached_all_trials = None
        try:
            trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
            is_begun = storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except (KeyError, optuna.exceptions.UpdateFinishedTrialError):
            return None
        return Trial(study, trial_id) if is_begun else None

    def _enqueue(
        self, parameters: dict[str, Value], configuration: int, repeat: int, sweep: SweepSpec
    ) -> None:
        own, assignment = identity(configuration, repeat, sweep), by_path(parameters)
        path = self.keys_of(assignment, own["seed"])
        self.study.enqueue_trial(parameters, user_attrs={**own, "facts": self.facts, "path": path})
        assert self._asked is not None
        self._asked.add(configuration, repeat, assignment)

    def resume_trial(self, number: int, sweep: SweepSpec, model_bounds: ModelBounds) -> AskedTrial:
        """The ticket of a RUNNING trial whose process is gone: the same assignment again."""
        return self._ticket(self._trial(number), sweep, model_bounds)

    def running(self) -> list[int]:
        """Numbers of trials that are RUNNING, by this or by a dead driver."""
        running = (TrialState.RUNNING,)
        return [trial.number for trial in self.study.get_trials(deepcopy=False, states=running)]

    def enqueue_failed(self, retry: Retry | None = None) -> list[int]:
        """Queue failed trials again, as :func:`~xlt_ray.ledger.ledger.retried` chooses them;
        their numbers."""
        chosen = retried(self.name, self.trials(), retry or Retry(), self.driver)
        for one in chosen:
            self._enqueue_retry(one.number)
        return [one.number for one in chosen]

    def _enqueue_retry(self, number: int) -> None:
        """Queue a failed trial's parameters again, as a new trial that names the old one.

        Optuna does not reopen a finished trial. The new one continues its MLflow run.
        """
        view = self.trial(number)
        self._asked = None
        self.study.enqueue_trial(
            dict(self._frozen(number).params),
            user_attrs={**{name: getattr(view, name) for name in REPEATED}, "retry_of": number},
        )

    # -- telling ----------------------------------------------------------------------

    def begin_attempt(self, number: int) -> int:
        """Count one more attempt; returns its number, from 1."""
        view = self.trial(number)
        attempt = view.attempts + 1
        if view.facts != self.facts:
            # What it was asked or begun with is not what it will be made with.
            self._trial(number).set_user_attr("facts", self.facts)
            if view.curve:
                steps = [*self._frozen(number).intermediate_values]
                self._trial(number).set_user_attr(OUTDATED, steps)
                self._trial(number).set_user_attr(JUDGED, 0)
        self._trial(number).set_user_attr("attempts", attempt)
        return attempt

    def has_begun(self, number: int) -> bool:
        """Whether an attempt at this trial was begun; a retry counts on from the failed one."""
        view = self.trial(number)
        before = 0 if view.retry_of is None else self.trial(view.retry_of).attempts
        return view.attempts > before

    def set_occupied(self, number: int, occupied: Occupation) -> None:
        """Note :attr:`~xlt_ray.ledger.views.TrialView.occupied`."""
        self._trial(number).set_user_attr(OCCUPIED, asdict(occupied))

    def sign(self, time: float) -> None:
        """Note that this driver's trials are at work at ``time`` (seconds since 1970)."""
        self.note(SIGN, asdict(SignOfLife(self.driver, time)))

    def report(self, number: int, examples: int, value: float) -> bool:
        """Note the objective metric at a point of the target stage; False where it was known."""
        before, trial = self._frozen(number), self._trial(number)
        if examples in points_of(before):
            return False
        if examples in before.intermediate_values:
            self.study._storage.set_trial_intermediate_value(trial._trial_id, examples, value)
            rest = [attr for attr in before.user_attrs[OUTDATED] if attr != examples]
            trial.set_user_attr(OUTDATED, rest)
        else:
            trial.report(value, examples)
        return True

    def should_stop_early(
        self, number: int, examples: int, total_examples: int, halving: Halving
    ) -> bool:
        """Whether successive halving ends a trial at an evaluation that was reported.

        Only first repeats compete. Whoever was judged at an evaluation is not judged there again.

        Args:
            examples: after which it was, of ``total_examples`` in the target stage.
        """
        before = self._frozen(number)
        if repeat_of(before) or examples <= before.user_attrs.get(JUDGED, 0):
            return False
        trial = self._trial(number)
        if before.user_attrs.get(LENGTH) != total_examples:
            trial.set_user_attr(LENGTH, total_examples)
        is_behind = falls_behind(
            self._frozen(number),
            examples,
            self.study.get_trials(deepcopy=False),
            halving,
            maximize=self.study.direction == StudyDirection.MAXIMIZE,
        )
        if not is_behind:
            trial.set_user_attr(JUDGED, examples)
        return is_behind

    def set_path(self, number: int, path: list[str]) -> None:
        """Note the keys of a trial's path where they are not those that it was added with."""
        if [*self.trial(number).path] != path:
            self._trial(number).set_user_attr("path", path)

    def set_stages(self, number: int, stages: list[StageUse]) -> None:
        self._trial(number).set_user_attr("stages", [asdict(stage) for stage in stages])

    def set_run_id(self, number: int, run_id: str) -> None:
        """Note the MLflow run of a trial; of a finished one, too, if MLflow answered late.

        Optuna keeps a finished trial as it is, so that the study holds these.
        """
        if not self.trial(number).is_finished:
            self._trial(number).set_user_attr("mlflow_run_id", run_id)
            return
        late = self._runs_told_late()
        late[number] = run_id
        self._ended.pop(number, None)
        first = number - number % RUNS_IN_ONE
        beside = range(first, first + RUNS_IN_ONE)
        self.note(f"{LATE_RUNS}:{first}", {str(one): late[one] for one in beside if one in late})

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
        for name, text in (("cause", cause), ("message", message), ("log", log)):
            self._trial(number).set_user_attr(name, text)
        self._tell(number, TrialState.FAIL)

    # -- inside -----------------------------------------------------------------------

    def _frozen(self, number: int) -> FrozenTrial:
        """A trial as Optuna has it, without a look at the others; KeyError if there is none."""
        if number < 0:
            raise KeyError(number)
        storage = self.study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        return storage.get_trial(trial_id)

    def _view(self, trial: FrozenTrial, sign: SignOfLife | None = None) -> TrialView:
        if trial.number in self._ended:
            return self._ended[trial.number]
        view = view_of(trial, sign)
        if not view.is_finished:
            return view
        # Nothing but the run of a finished trial changes.
        run_id = self._runs_told_late().get(view.number, view.mlflow_run_id)
        return self._ended.setdefault(view.number, replace(view, mlflow_run_id=run_id))

    def _runs_told_late(self) -> dict[int, str]:
        """Read once: only the driver writes them, through this object."""
        if self._late_runs is None:
            noted = self.study.user_attrs
            self._late_runs = {
                int(number): run_id
                for name in sorted(noted)
                if name.partition(":")[0] == LATE_RUNS
                for number, run_id in noted[name].items()
            }
        return self._late_runs

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        self.study.tell(number, value, state=state, skip_if_finished=True)
        self._live.pop(number, None)
        if self._asked is not None:
            self._asked.note(self._frozen(number))

    def _trial(self, number: int) -> Trial:
        if number not in self._live:
            storage = self.study._storage
            trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
            sampler, self.study.sampler = self.study.sampler, optuna.samplers.RandomSampler(seed=0)
            self._live[number] = Trial(self.study, trial_id)
            self.study.sampler = sampler
        return self._live[number]

    def _ticket(self, trial: Trial, sweep: SweepSpec, model_bounds: ModelBounds) -> AskedTrial:
        _, assignment = draw(sweep.space, lambda parameter: suggest(trial, parameter), model_bounds)
        attributes = trial.user_attrs
        return AskedTrial(
            trial.number, assignment, int(attributes["seed"]), int(attributes.get("attempts", 0))
        )


def rehearsal(sweep: SweepSpec, ledger: Ledger | None = None) -> Ledger:
    """A ledger in memory with the trials of ``ledger``, or with none, to be asked and thrown away.

    It asks what a real one asks as long as the sampler needs no scores: a grid, points of
    ``search.first``, and random always do; tpe draws from what has been told so far.
    """
    with quiet():
        study = optuna.create_study(
            study_name=sweep.name,
            direction="maximize" if sweep.settings.objective.mode == "max" else "minimize",
        )
    if ledger is not None:
        study.add_trials(ledger.study.get_trials(deepcopy=False))
    return Ledger(study, sweep.name)
