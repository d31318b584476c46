"""The book itself: asking, reading and telling trials of one Optuna study."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from xlt_ray.errors import LedgerError
from xlt_ray.ledger.asked import PendingTrials
from xlt_ray.ledger.bounded import History
from xlt_ray.ledger.halving import JUDGED, LENGTH, Halving, falls_behind
from xlt_ray.ledger.proposing import Proposer, identity, parameters_of, suggest
from xlt_ray.ledger.ranking import Winner, winner
from xlt_ray.ledger.retrying import Retry, retried
from xlt_ray.ledger.views import (
    OCCUPIED,
    OUTDATED,
    AskedTrial,
    Occupation,
    SignOfLife,
    StageUse,
    Standing,
    TrialView,
    by_path,
    configuration_of,
    points_of,
    repeat_of,
    standings,
    view_of,
)
from xlt_ray.spec.space import Assignment, ModelBounds, Value, draw
from xlt_ray.spec.sweep import SweepSpec, completed
from xlt_ray.stages.canonical import from_fields

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
        return [self._view(one, sign) for one in self.study.get_trials(deepcopy=False)]

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
        return [one.number for one in self.study.get_trials(deepcopy=False, states=running)]

    def enqueue_failed(self, retry: Retry | None = None) -> list[int]:
        """Queue failed trials again, as :func:`~xlt_ray.ledger.retrying.retried` chooses them;
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
            rest = [one for one in before.user_attrs[OUTDATED] if one != examples]
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
        self._trial(number).set_user_attr("stages", [asdict(one) for one in stages])

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
        _, assignment = draw(sweep.space, lambda knob: suggest(trial, knob), model_bounds)
        attributes = trial.user_attrs
        return AskedTrial(
            trial.number, assignment, int(attributes["seed"]), int(attributes.get("attempts", 0))
        )
