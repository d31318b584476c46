"""The ledger of a sweep: one Optuna study with its trials and their results.

:class:`Ledger` asks for the next trial, notes what happens to trials, and tells Optuna how they
end. Only the driver of a sweep writes to it. :func:`rehearsal` gives a copy in memory, which tells
what a sweep would run next.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from xlt_ray.config.search_space import Assignment, ModelBounds, Value, draw
from xlt_ray.config.seed_race import seed_levels
from xlt_ray.config.sweep import SweepSpec, completed, modes_of, rungs_of
from xlt_ray.errors import LedgerError
from xlt_ray.ledger.cost_aware import cost_aware
from xlt_ray.ledger.halving import JUDGED, LENGTH, Halving, falls_behind
from xlt_ray.ledger.observations import IMPORTED, Observation
from xlt_ray.ledger.racing import contenders, is_undecided, next_trials, ranking
from xlt_ray.ledger.requests import BY_HAND, Request, requests_of
from xlt_ray.ledger.sampler import (
    Configuration,
    Proposer,
    configuration_from,
    directions_of,
    identity,
    parameters_of,
    quiet,
    suggest,
)
from xlt_ray.ledger.views import (
    CLONE_OF,
    OCCUPIED,
    ORIGIN,
    OUTDATED,
    STOPPED,
    AskedTrial,
    Heartbeat,
    Occupation,
    StageUse,
    Standing,
    TrialView,
    Winner,
    assignment_of,
    by_path,
    configuration_of,
    is_retry,
    origin_of,
    points_of,
    repeat_of,
    rung_of,
    standings,
    view_of,
    winner,
)
from xlt_ray.store.canonical import from_fields


class PendingTrials:
    """Which trials were added, which of them wait, and which repeats are missing.

    The trials of higher rungs are not among these
    (:func:`~xlt_ray.ledger.racing.next_trials`).

    Built from a study once and then kept up: only the driver adds trials, through its
    :class:`Ledger`, so the study is not read again before every ask.

    Args:
        levels: numbers of seeds of all rungs of a race; of the only one without a race.
        is_first_alone: add the other repeats of a configuration when its first repeat is
            complete, instead of when it starts.
    """

    def __init__(
        self,
        trials: Iterable[FrozenTrial],
        levels: tuple[int, ...],
        *,
        is_first_alone: bool = False,
    ) -> None:
        self.levels = levels
        self._seeds = levels[0]
        self.is_first_alone = is_first_alone
        self.configurations: set[Configuration] = set()
        self.waiting: deque[int] = deque()
        """Numbers of the trials that start next."""
        self.results: dict[int, dict[int, float | None]] = {}
        """Of all trials, by their configuration at the lowest rung; as
        :data:`~xlt_ray.ledger.racing.Results`."""
        self._promoted: dict[tuple[int, int], int] = {}
        """(configuration of the lowest rung, rung) -> the configuration of that rung."""
        self._repeats: list[tuple[int, int]] = []
        """(configuration, repeat) of every trial."""
        self._to_repeat: dict[int, FrozenTrial] = {}
        """Configuration -> the trial whose repeats are to be added."""
        self._running_first: set[int] = set()
        """Numbers of the first repeats that are running."""
        for trial in trials:
            self.add(
                configuration_of(trial), repeat_of(trial), assignment_of(trial),
                rung_of(trial) or 0, origin_of(trial),
            )  # fmt: skip
            if trial.state != TrialState.WAITING:
                self.waiting.pop()
                self.update(trial)

    def add(
        self,
        configuration: int,
        repeat: int,
        assignment: Mapping[str, Value],
        rung: int = 0,
        origin: int | None = None,
    ) -> None:
        """A waiting trial was added to the study, with the next number."""
        self.waiting.append(len(self._repeats))
        self._repeats.append((configuration, repeat))
        origin = configuration if origin is None else origin
        if rung:
            self._promoted[origin, rung] = configuration
        self.results.setdefault(origin, {})[rung + repeat] = None
        self.configurations.add(configuration_from(assignment))

    @property
    def next_configuration(self) -> int:
        return max(self._repeats, default=(-1, 0))[0] + 1

    @property
    def num_tried(self) -> int:
        """Configurations of the lowest rung."""
        return self.next_configuration - len(self._promoted)

    @property
    def awaits_first_repeats(self) -> bool:
        """Whether repeats may be added when a running trial ends."""
        return self.is_first_alone and self._seeds > 1 and bool(self._running_first)

    def configuration_at(self, origin: int, rung: int) -> int | None:
        """The configuration of a higher rung that another one went on as; None before it did."""
        return self._promoted.get((origin, rung))

    def number_of(self, configuration: int) -> int:
        """Number of the first trial of a configuration."""
        return self._repeats.index((configuration, 0))

    def update(self, trial: FrozenTrial) -> None:
        """A trial has started or ended."""
        if trial.state.is_finished():
            is_complete = trial.state == TrialState.COMPLETE
            value = (trial.values or [math.nan])[0] if is_complete else math.nan
            place = (rung_of(trial) or 0) + repeat_of(trial)
            self.results[origin_of(trial)][place] = value
        if self._seeds == 1 or repeat_of(trial):
            return
        if trial.state == TrialState.RUNNING:
            self._running_first.add(trial.number)
        else:
            self._running_first.discard(trial.number)
        if self.is_first_alone:
            is_to_be_repeated = trial.state == TrialState.COMPLETE
        else:
            # A trial that early stopping ended gets no repeats after early stopping is given up.
            is_to_be_repeated = not is_retry(trial) and trial.state != TrialState.PRUNED
        if is_to_be_repeated:
            self._to_repeat[configuration_of(trial)] = trial

    def pop_missing_repeats(self) -> list[tuple[FrozenTrial, int]]:
        """The repeats to add, each with the trial that it repeats; a second call returns none."""
        missing = [
            (trial, repeat)
            for configuration, trial in sorted(self._to_repeat.items())
            for repeat in range(1, self._seeds)
            if (configuration, repeat) not in self._repeats
        ]
        self._to_repeat.clear()
        return missing


MAX_NUMBERS = 20
"""Numbers of trials in one line of text."""


@dataclass(frozen=True)
class Retry:
    """Which failed trials to run again; all of them by default."""

    cause: str = ""
    """Only those that failed for this cause."""
    trials: tuple[int, ...] = ()
    """Only these numbers."""


def still_failed(views: Sequence[TrialView]) -> list[TrialView]:
    """The failed trials that have not been queued again, by number."""
    retried = {view.retry_of for view in views}
    return [view for view in views if view.state == "failed" and view.number not in retried]


def by_cause(failed: Sequence[TrialView]) -> dict[str, list[TrialView]]:
    """Failed trials by their cause, the most frequent cause first."""
    causes = Counter(view.cause or "bug" for view in failed).most_common()
    return {
        cause: [view for view in failed if (view.cause or "bug") == cause] for cause, _ in causes
    }


def retry_command(name: str, cause: str) -> str:
    """The command that runs the trials of a sweep again that failed for a cause."""
    return f"xlt resume {name} --where {cause}"


def failure_lines(views: Sequence[TrialView], name: str) -> list[str]:
    """One line for each cause of failures: the trials, and the command that runs them again."""
    return [
        f"{len(failed)} trial{'s' * (len(failed) > 1)} failed for {cause} "
        f"({', '.join(str(view.number) for view in failed[:MAX_NUMBERS])}"
        f"{', ...' * (len(failed) > MAX_NUMBERS)}); again: {retry_command(name, cause)}"
        for cause, failed in by_cause(still_failed(views)).items()
    ]


def select_failed(
    name: str, views: Sequence[TrialView], retry: Retry, driver: str = ""
) -> list[TrialView]:
    """The failed trials that ``retry`` selects and that have not been queued again.

    Args:
        driver: as in :func:`~xlt_ray.ledger.views.standings`.

    Raises:
        LedgerError: a selected trial has not failed, failed for another cause, or is queued again
            already; or no trial failed for the selected cause.
    """
    failed = still_failed(views)
    if retry.trials:
        _refuse_unfailed(name, views, retry, driver)
        return [view for view in failed if view.number in retry.trials]
    causes = Counter(view.cause for view in failed)
    if retry.cause and retry.cause not in causes:
        known = ", ".join(f"{cause} ({count})" for cause, count in causes.most_common())
        raise LedgerError(
            f"{name}: no failed trial has the cause {retry.cause}; "
            f"available: {known or 'no failed trial'}"
        )
    return [view for view in failed if retry.cause in ("", view.cause)]


def _refuse_unfailed(name: str, views: Sequence[TrialView], retry: Retry, driver: str) -> None:
    by_number = {view.number: view for view in views}
    retries = {view.retry_of: view.number for view in views}
    states = standings(views, driver=driver)
    for number in retry.trials:
        if number not in by_number:
            raise _unknown_trial(name, number, len(views))
        if states[number] != "failed":
            failed = ", ".join(str(view.number) for view in still_failed(views)) or "none"
            problem = f"is {states[number]}, not failed; failed: {failed}"
        elif number in retries:
            problem = f"is run again as trial {retries[number]} already"
        elif retry.cause not in ("", by_number[number].cause):
            problem = f"failed for another cause, {by_number[number].cause}"
        else:
            continue
        raise LedgerError(f"{name}: trial {number} {problem}")


def _unknown_trial(name: str, number: int, num_trials: int) -> LedgerError:
    last = f"the last one is {num_trials - 1}" if num_trials else "there are none yet"
    return LedgerError(f"{name}: there is no trial {number}; {last}")


def _clone_of(trial: FrozenTrial) -> list[Any] | None:
    """Id of the request, and the cloned trial, of a configuration that people asked for."""
    clone_of: list[Any] | None = trial.user_attrs.get(CLONE_OF)
    return clone_of


LATE_RUNS = "mlflow_run_ids"
"""Attributes of the study: MLflow run IDs that arrived after their trial had ended.

Each attribute holds those of RUNS_PER_ATTRIBUTE trials, since it is written as a whole."""
RUNS_PER_ATTRIBUTE = 100
REPEATED = (
    "configuration", "repeat", "seed", "rung", "origin", "facts", "path", "attempts",
    "mlflow_run_id",
)  # fmt: skip
"""Attributes that a retry, which is a new trial with the same parameters, copies."""
HEARTBEAT = "sign_of_life"
"""Attribute of the study: the fields of the last :class:`Heartbeat`."""


class Ledger:
    """One sweep's study. Open it with :func:`open_ledger` or :func:`load_ledger`."""

    def __init__(
        self, study: optuna.Study, name: str, set_aside: Path | None = None, driver: str = ""
    ) -> None:
        self.study = study
        # For the values of its trials, which were all enqueued: nothing is ever drawn with it.
        study.sampler = optuna.samplers.RandomSampler(seed=0)
        self.name = name
        self.driver = driver
        """Token of the lease of the living driver of this sweep; empty without one."""
        self.set_aside = set_aside
        """The damaged file, if it was damaged: the trials that it lost are asked again."""
        self.is_exhausted = False
        """Whether every configuration of the space has been asked."""
        self._live: dict[int, Trial] = {}
        self._ended: dict[int, TrialView] = {}
        self._pending: PendingTrials | None = None
        self._proposer = Proposer(study)
        self._late_runs: dict[int, str] | None = None
        self.news: tuple[str, ...] = ()
        """Lines about this start, for the user."""
        self.facts = 0
        """Number of the set of facts of trials from now on; 0 if there is none."""
        self.examples_of: Callable[[Assignment, int], dict[str, int]] = lambda *_: {}
        """Assignment and seed -> key and examples of each stage on the path of a new trial."""

    # -- reading ----------------------------------------------------------------------

    @property
    def sweep(self) -> dict[str, Any]:
        """The resolved sweep, with all keys of this version."""
        return completed(self.study.user_attrs["sweep"])

    @property
    def identity(self) -> str:
        """Distinguishes its MLflow runs from those of other sweeps of this name; empty in an old
        ledger."""
        return str(self.study.user_attrs.get("identity", ""))

    @property
    def origin(self) -> str:
        """The archive that ``xlt results add`` read it from; empty for a sweep of this home."""
        return str(self.study.user_attrs.get(ORIGIN, ""))

    @property
    def is_maximized(self) -> bool:
        """Of the first objective."""
        return self.study.directions[0] == StudyDirection.MAXIMIZE

    def note(self, key: str, value: Any) -> None:
        self.study.set_user_attr(key, value)

    def trials(self) -> list[TrialView]:
        """All trials, by number; time of running trials counts up to the last heartbeat."""
        heartbeat = self.heartbeat
        return [self._view(trial, heartbeat) for trial in self.study.get_trials(deepcopy=False)]

    @property
    def by_hand(self) -> list[Request]:
        """What people asked and the driver carried out, in this order."""
        return requests_of(self.study.user_attrs)

    def standings(self) -> dict[int, Standing]:
        """The standing of every trial, by number."""
        return standings(self.trials(), driver=self.driver)

    def trial(self, number: int) -> TrialView:
        """One trial; raises LedgerError if there is none of this number."""
        try:
            return self._view(self._frozen(number))
        except KeyError:
            num_trials = len(self.study.get_trials(deepcopy=False))
            raise _unknown_trial(self.name, number, num_trials) from None

    def best(self) -> Winner | None:
        """What the sweep selects; None before any trial is complete."""
        sweep = self.sweep
        return winner(self.trials(), sweep["search"]["seeds"], *modes_of(sweep["objective"]))

    @property
    def imported(self) -> tuple[str, ...]:
        """The sweeps whose trials the sampler knows."""
        keys = (key.partition(":") for key in self.study.user_attrs)
        return tuple(name for kind, _, name in keys if kind == IMPORTED)

    def keep_observations(self, name: str, observations: Sequence[Observation]) -> None:
        """Note what the sampler knows of the sweep ``name`` from now on."""
        self.note(f"{IMPORTED}:{name}", [asdict(each) for each in observations])

    def contenders(self) -> frozenset[int]:
        """Configurations that may get further trials, by seeds or at a higher rung."""
        results: dict[int, dict[int, float | None]] = {}
        trials = self.trials()
        for view in trials:
            ended = math.nan if view.objective is None else view.objective
            results.setdefault(view.origin, {})[(view.rung or 0) + view.repeat] = (
                ended if view.is_finished else None
            )
        rungs = rungs_of(self.sweep, len(results))
        origins = contenders(results, rungs, maximize=self.is_maximized)
        return frozenset(view.configuration for view in trials if view.origin in origins)

    # -- asking -----------------------------------------------------------------------

    def ask(self, sweep: SweepSpec, model_bounds: ModelBounds) -> AskedTrial | None:
        """Start the next trial of the sweep and return it; None if there is none now.

        Points that people asked for come before those of the sampler, which draws the same ones as
        without them.

        Repeats follow the first trial of their configuration; with early stopping, once it is
        complete. The trials of higher rungs, of a race or a fidelity, follow when no configuration
        is left to ask. While :meth:`awaits_results`, more may follow when a trial ends.
        """
        pending = self._pending_of(sweep)
        for trial_to_repeat, repeat in pending.pop_missing_repeats():
            configuration = configuration_of(trial_to_repeat)
            parameters, clone_of = dict(trial_to_repeat.params), _clone_of(trial_to_repeat)
            self._enqueue(parameters, configuration, repeat, sweep, clone_of)
        if not pending.waiting:
            self._add_trial(sweep, model_bounds, pending)
        if not pending.waiting:
            return None
        number = pending.waiting.popleft()
        trial = self._start(number)
        if trial is None:
            # Another tool has changed the study: read the waiting trials again.
            self._pending = None
            return self.ask(sweep, model_bounds)
        asked_trial = self._asked_trial(trial, sweep, model_bounds)
        pending.update(self._frozen(number))
        return asked_trial

    def _add_trial(
        self, sweep: SweepSpec, model_bounds: ModelBounds, pending: PendingTrials
    ) -> None:
        """Add the first trial of the next configuration, or the next trial of a higher rung."""
        configuration, search = pending.next_configuration, sweep.settings.search
        asked = pending.configurations
        points = [request for request in self.by_hand if request.kind == "clone"]
        num_clones = self._num_clones() if points else 0
        # The sampler counts its own configurations.
        number = pending.num_tried - num_clones
        assignment: Assignment | None = None
        clone_of = None
        if num_clones < len(points):
            point = points[num_clones]
            clone_of = [point.id, point.trial]
            assignment = self._proposer.around(point.values, number, sweep, asked, model_bounds)
        elif number < search.trials and not self.is_exhausted:
            assignment = self._proposer.configuration(number, sweep, asked, model_bounds)
            self.is_exhausted = assignment is None
            if assignment and search.cost_aware and number >= len(sweep.first_points):
                assignment = self._cost_aware(assignment, sweep, model_bounds, pending)
        if assignment is not None:
            parameters = parameters_of(sweep, assignment, model_bounds)
            self._enqueue(parameters, configuration, 0, sweep, clone_of)
            return
        rungs = sweep.rungs(pending.num_tried)
        missing = next_trials(pending.results, rungs, maximize=self.is_maximized)
        # One at a time: a driver that dies between two of them would change their order.
        for origin, place in missing[:1]:
            first = self._frozen(pending.number_of(origin))
            rung = min(place, max(len(sweep.fidelity_values) - 1, 0))
            at_rung = sweep.at_rung(assignment_of(first), rung)
            parameters = parameters_of(sweep, at_rung, model_bounds)
            known = pending.configuration_at(origin, rung) if rung else origin
            if known is not None:
                configuration = known
            self._enqueue(
                parameters, configuration, place - rung, sweep, _clone_of(first), rung, origin
            )

    def _num_clones(self) -> int:
        """How many of the points that people asked for have been asked."""
        clones = map(_clone_of, self.study.get_trials(deepcopy=False))
        return len({clone_of[0] for clone_of in clones if clone_of is not None})

    def _cost_aware(
        self,
        proposal: Assignment,
        sweep: SweepSpec,
        model_bounds: ModelBounds,
        pending: PendingTrials,
    ) -> Assignment:
        """A proposal, or the same on stages that earlier trials of this ledger make."""
        search, trials = sweep.settings.search, self.study.get_trials(deepcopy=False)
        assignments = {configuration_of(trial): assignment_of(trial) for trial in trials}
        made = {
            key
            for trial in trials
            if trial.state != TrialState.FAIL
            for key in trial.user_attrs.get("path", ())
        }

        def num_missing(assignment: Assignment) -> int:
            examples: dict[str, int] = {}
            for repeat in range(seed_levels(search.seeds)[0]):
                examples |= self.examples_of(assignment, search.training_seed + repeat)
            return sum(number for key, number in examples.items() if key not in made)

        ranked, others = ranking(pending.results, maximize=self.is_maximized)
        return cost_aware(
            proposal,
            [assignments[configuration] for configuration in ranked],
            [assignments[configuration] for configuration in others],
            num_missing,
            sweep.space,
            model_bounds,
        )

    def awaits_results(self, sweep: SweepSpec) -> bool:
        """Whether more trials may follow when running ones end."""
        pending = self._pending_of(sweep)
        rungs = sweep.rungs(pending.num_tried)
        return pending.awaits_first_repeats or is_undecided(pending.results, rungs)

    def _pending_of(self, sweep: SweepSpec) -> PendingTrials:
        search = sweep.settings.search
        levels = seed_levels(search.seeds) if search.fidelity is None else (1,)
        is_first_alone = sweep.settings.early_stop is not None
        if self._pending is None or (self._pending.levels, self._pending.is_first_alone) != (
            levels, is_first_alone,
        ):  # fmt: skip
            trials = self.study.get_trials(deepcopy=False)
            self._pending = PendingTrials(trials, levels, is_first_alone=is_first_alone)
        return self._pending

    def _start(self, number: int) -> Trial | None:
        """Set a waiting trial to RUNNING; None if it does not wait any more.

        Does what Optuna's ``ask`` does, which searches all trials for the first waiting one.
        """
        self.study._thread_local.cached_all_trials = None
        try:
            is_started = self.study._storage.set_trial_state_values(
                self._id_of(number), TrialState.RUNNING
            )
        except (KeyError, optuna.exceptions.UpdateFinishedTrialError):
            return None
        return self._trial(number) if is_started else None

    def _enqueue(
        self,
        parameters: dict[str, Value],
        configuration: int,
        repeat: int,
        sweep: SweepSpec,
        clone_of: list[Any] | None = None,
        rung: int = 0,
        origin: int | None = None,
    ) -> None:
        attributes, assignment = identity(configuration, repeat, sweep), by_path(parameters)
        path = [*self.examples_of(assignment, attributes["seed"])]
        attributes |= {"facts": self.facts, "path": path}
        if sweep.settings.search.fidelity is not None:
            attributes |= {"rung": rung, "origin": configuration if origin is None else origin}
        if clone_of is not None:
            attributes[CLONE_OF] = clone_of
        self.study.enqueue_trial(parameters, user_attrs=attributes)
        assert self._pending is not None
        self._pending.add(configuration, repeat, assignment, rung, origin)

    def resume_trial(self, number: int, sweep: SweepSpec, model_bounds: ModelBounds) -> AskedTrial:
        """A RUNNING trial whose process is gone, with the same assignment."""
        return self._asked_trial(self._trial(number), sweep, model_bounds)

    def running(self) -> list[int]:
        """Numbers of RUNNING trials, of this driver or of a dead one."""
        running = (TrialState.RUNNING,)
        return [trial.number for trial in self.study.get_trials(deepcopy=False, states=running)]

    def unfinished(self) -> list[int]:
        """Numbers of the trials that have not ended, started or not."""
        states = (TrialState.RUNNING, TrialState.WAITING)
        return [trial.number for trial in self.study.get_trials(deepcopy=False, states=states)]

    def enqueue_failed(self, retry: Retry | None = None) -> list[int]:
        """Queue the failed trials that :func:`select_failed` selects; returns their numbers."""
        failed = select_failed(self.name, self.trials(), retry or Retry(), self.driver)
        for view in failed:
            # Optuna does not reopen a finished trial. The new one continues its MLflow run.
            failed_trial = self._frozen(view.number)
            attributes = {name: getattr(view, name) for name in REPEATED}
            attributes["retry_of"] = view.number
            if (clone_of := _clone_of(failed_trial)) is not None:
                attributes[CLONE_OF] = clone_of
            self.study.enqueue_trial(dict(failed_trial.params), user_attrs=attributes)
        self._pending = None
        return [view.number for view in failed]

    # -- telling ----------------------------------------------------------------------

    def begin_attempt(self, number: int) -> int:
        """Count one more attempt; returns its number, from 1."""
        view, trial = self.trial(number), self._trial(number)
        if view.facts != self.facts:
            # The facts have changed since it was asked or last started.
            trial.set_user_attr("facts", self.facts)
            if view.curve:
                trial.set_user_attr(OUTDATED, [*self._frozen(number).intermediate_values])
                trial.set_user_attr(JUDGED, 0)
        trial.set_user_attr("attempts", view.attempts + 1)
        return view.attempts + 1

    def has_begun(self, number: int) -> bool:
        """Whether an attempt has started; a retry continues the count of its failed trial."""
        view = self.trial(number)
        before = 0 if view.retry_of is None else self.trial(view.retry_of).attempts
        return view.attempts > before

    def set_occupied(self, number: int, occupied: Occupation) -> None:
        """Note :attr:`~xlt_ray.ledger.views.TrialView.occupied`."""
        self._trial(number).set_user_attr(OCCUPIED, asdict(occupied))

    def record_heartbeat(self, time: float, left_s: float | None = None) -> None:
        """Note that this driver and its trials are at work at ``time`` (seconds since 1970), and
        how many seconds the sweep still takes."""
        self.note(HEARTBEAT, asdict(Heartbeat(self.driver, time, left_s)))

    @property
    def heartbeat(self) -> Heartbeat | None:
        """The last heartbeat of a driver, living or dead."""
        noted = self.study.user_attrs.get(HEARTBEAT)
        return None if noted is None else from_fields(Heartbeat, noted)

    def report(self, number: int, examples: int, value: float) -> bool:
        """Note the objective metric at a point of the target stage; False if it was known."""
        before, trial = self._frozen(number), self._trial(number)
        if examples in points_of(before):
            return False
        # Trial.report ignores a point that exists, which an outdated one does.
        self.study._storage.set_trial_intermediate_value(trial._trial_id, examples, float(value))
        if examples in before.intermediate_values:
            outdated = [point for point in before.user_attrs[OUTDATED] if point != examples]
            trial.set_user_attr(OUTDATED, outdated)
        return True

    def should_stop_early(
        self, number: int, examples: int, total_examples: int, halving: Halving
    ) -> bool:
        """Whether successive halving ends a trial at an evaluation that was reported.

        Only first repeats compete, and each evaluation is judged once.

        Args:
            examples: seen at the evaluation, of ``total_examples`` in the target stage.
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
            maximize=self.is_maximized,
        )
        if not is_behind:
            trial.set_user_attr(JUDGED, examples)
        return is_behind

    def set_path(self, number: int, path: list[str]) -> None:
        """Note the keys of a trial's path if they differ from those that it was added with."""
        if [*self.trial(number).path] != path:
            self._trial(number).set_user_attr("path", path)

    def set_stages(self, number: int, stages: list[StageUse]) -> None:
        self._trial(number).set_user_attr("stages", [asdict(stage) for stage in stages])

    def set_run_id(self, number: int, run_id: str) -> None:
        """Note the MLflow run of a trial.

        Optuna does not change finished trials; the run IDs of these go into the study.
        """
        if not self.trial(number).is_finished:
            self._trial(number).set_user_attr("mlflow_run_id", run_id)
            return
        late = self._late_run_ids()
        late[number] = run_id
        self._ended.pop(number, None)
        first = number - number % RUNS_PER_ATTRIBUTE
        numbers = range(first, first + RUNS_PER_ATTRIBUTE)
        run_ids = {str(number): late[number] for number in numbers if number in late}
        self.note(f"{LATE_RUNS}:{first}", run_ids)

    def tell_complete(
        self,
        number: int,
        objective: float,
        further: Sequence[float] = (),
        constraints: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """End a trial with its objectives; one that is NaN is a failure.

        Args:
            further: values of the objectives after the first.
            constraints: as :attr:`~xlt_ray.ledger.views.TrialView.constraints`.
        """
        if any(map(math.isnan, (objective, *further, *constraints.values()))):
            self.tell_failed(number, "nan", "the objective is not a number")
            return
        trial_id = self._trial(number)._trial_id
        for name, excess in constraints.items():
            # `Trial.set_constraint` ignores what a driver that died wrote before.
            self.study._storage.set_trial_system_attr(trial_id, f"constraints:{name}", excess)
        self._tell(number, TrialState.COMPLETE, [objective, *further])

    def tell_pruned(self, number: int, *, by_hand: bool = False) -> None:
        """End a trial that was stopped early; its last reported value counts."""
        if by_hand:
            self._trial(number).set_user_attr(STOPPED, True)
        self._tell(number, TrialState.PRUNED)

    def tell_failed(self, number: int, cause: str, message: str, log: str = "") -> None:
        """End a failed trial: cause in one word, one line of explanation, last lines of the log."""
        for name, text in (("cause", cause), ("message", message), ("log", log)):
            self._trial(number).set_user_attr(name, text)
        self._tell(number, TrialState.FAIL)

    # -- inside -----------------------------------------------------------------------

    def _frozen(self, number: int) -> FrozenTrial:
        """A trial as Optuna has it, without reading the others; KeyError if there is none."""
        return self.study._storage.get_trial(self._id_of(number))

    def _id_of(self, number: int) -> int:
        if number < 0:
            raise KeyError(number)
        storage = self.study._storage
        return storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)

    def _view(self, trial: FrozenTrial, heartbeat: Heartbeat | None = None) -> TrialView:
        if trial.number in self._ended:
            return self._ended[trial.number]
        view = view_of(trial, heartbeat)
        if not view.is_finished:
            return view
        # Of a finished trial only the run ID changes.
        run_id = self._late_run_ids().get(view.number, view.mlflow_run_id)
        return self._ended.setdefault(view.number, replace(view, mlflow_run_id=run_id))

    def _late_run_ids(self) -> dict[int, str]:
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

    def _tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        self.study.tell(number, values, state=state, skip_if_finished=True)
        self._live.pop(number, None)
        if self._pending is not None:
            self._pending.update(self._frozen(number))

    def _trial(self, number: int) -> Trial:
        if number not in self._live:
            self._live[number] = Trial(self.study, self._id_of(number))
        return self._live[number]

    def _asked_trial(self, trial: Trial, sweep: SweepSpec, model_bounds: ModelBounds) -> AskedTrial:
        _, assignment = draw(sweep.space, lambda parameter: suggest(trial, parameter), model_bounds)
        attributes = trial.user_attrs
        return AskedTrial(
            trial.number, assignment, int(attributes["seed"]), int(attributes.get("attempts", 0))
        )


def rehearsal(sweep: SweepSpec, ledger: Ledger | None = None) -> Ledger:
    """A ledger in memory with the trials of ``ledger``, or without any, to ask and throw away.

    It gives the trials that the real ledger would give as long as the sampler needs no further
    scores: always for grid, random and the points of ``search.first``; tpe uses today's scores.
    """
    with quiet():
        study = optuna.create_study(study_name=sweep.name, directions=directions_of(sweep))
    if ledger is not None:
        for key, value in ledger.study.user_attrs.items():
            if key.partition(":")[0] == IMPORTED:
                study.set_user_attr(key, value)
        study.add_trials(ledger.study.get_trials(deepcopy=False))
        study.set_user_attr(BY_HAND, ledger.study.user_attrs.get(BY_HAND, []))
    return Ledger(study, sweep.name)
