"""What a trial that was asked comes to: its path of stages, its order, what it occupies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xlt_ray.home import Home
from xlt_ray.ledger import AskedTrial, Halving, TrialView
from xlt_ray.spec.early_stop import grace_of
from xlt_ray.spec.facts import Facts
from xlt_ray.spec.space import Assignment
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trial import TrialSpec
from xlt_ray.stages.path import StagePath, path_of, stages_to_run
from xlt_ray.sweep.order import TrialTask, task_for


@dataclass(frozen=True)
class Planned:
    """A trial that was asked, with its path."""

    ticket: AskedTrial
    order: TrialTask


@dataclass(frozen=True)
class Planner:
    """Plans the trials of one sweep."""

    sweep: SweepSpec
    facts: Facts
    home: Home

    def planned(self, ticket: AskedTrial) -> Planned:
        trial = self.sweep.trial_of(ticket.assignment, self.bounds)
        path = self.path(trial, ticket.seed)
        return Planned(ticket, task_for(ticket.number, trial, path, self.sweep, self.home))

    def path(self, trial: TrialSpec, seed: int) -> StagePath:
        return path_of(
            trial,
            self.facts,
            seed=seed,
            shared_seed=self.sweep.settings.search.training_seed,
            rungs=self.sweep.rungs,
        )

    def keys(self, assignment: Assignment, seed: int) -> list[str]:
        """Keys of all stages that a trial makes or finds made."""
        path = self.path(self.sweep.trial_of(assignment, self.bounds), seed)
        return [stage.key for stage in stages_to_run(path)]

    def path_of_view(self, view: TrialView) -> StagePath:
        """The path of a trial as the ledger has it."""
        return self.path(self.sweep.trial_of(dict(view.assignment), self.bounds), view.seed)

    def bounds(self, model: str) -> Mapping[str, int]:
        return self.facts.models[model].bounds()

    def num_gpus(self, view: TrialView) -> float:
        """What a trial occupies, by its model."""
        resources = self.sweep.settings.resources
        if resources.by_model:
            trial = self.sweep.trial_of(dict(view.assignment), self.bounds)
            resources = resources.of(trial.model.name)
        return resources.workers * resources.gpus_per_worker


def halving_of(sweep: SweepSpec, facts: Facts) -> Halving | None:
    """The early stopping of a sweep, if it has any."""
    stop, grace = sweep.settings.early_stop, grace_of(sweep, facts)
    return None if stop is None or grace is None else Halving(grace, stop.reduction)
