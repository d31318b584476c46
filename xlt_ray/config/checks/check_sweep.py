"""Checks of a whole sweep against the facts of its models and data: errors, and warnings.

A check is a function of a concrete trial and the facts. :func:`check` runs all of them on every
probe of the space and gathers the problems; :func:`warnings_of` says what a sound sweep may mean
otherwise. Nothing is trained or written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from xlt_ray.config.checks import (
    check_alignment,
    check_evaluation,
    check_few_shot,
    check_intermediate,
    check_target,
)
from xlt_ray.config.checks.check_schedules import (
    TRAINED,
    averages_act,
    early_stop_acts,
    early_stop_acts_on_all,
    short_trainings,
)
from xlt_ray.config.facts import Facts
from xlt_ray.config.search_space import distributions_in, num_configurations, probes
from xlt_ray.config.sweep import SweepSpec, point_problems
from xlt_ray.config.trial import Problem, TrialSpec
from xlt_ray.errors import SpecError, SpecErrors, nearest

BEFORE_TARGET = ("model", "align", "intermediate")
"""Sections that decide what the target training starts from, in the order of a path."""


def shared_trainings(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """A warning for every stage that repeats share and that differs between configurations.

    The sweep has to fit its facts (:func:`xlt_ray.config.checks.check_sweep.check`).
    """
    seeds = sweep.settings.search.seeds
    if seeds == 1:
        return []
    trials = [sweep.trial(tree) for tree, _ in probes(sweep.space, facts.model_bounds)]
    warnings = []
    for name, training in (("align", "alignment"), ("intermediate", "intermediate training")):
        deciding = BEFORE_TARGET[: BEFORE_TARGET.index(name) + 1]
        variants = {
            tuple(repr(getattr(trial, section)) for section in deciding) for trial in trials
        }
        if len(variants) < 2 or not any(_is_shared(trial, name) for trial in trials):
            continue
        paths = (path for path, _ in distributions_in(sweep.space.tree))
        searched = dict.fromkeys(path for path in paths if path.partition(".")[0] in deciding)
        warnings.append(
            sweep.document.error(
                f"the {seeds} seeds of a configuration share one {training}, so a search over "
                f"{' and '.join(searched)} compares one such training each, luck included",
                key=f"{name}.seed",
                remedy=f"{name}.seed: per_trial trains one for each seed (xlt confirm: of the "
                "winner)",
            )
        )
    return warnings


def _is_shared(trial: TrialSpec, name: str) -> bool:
    """Whether repeats of this trial share the stage: it has it, and so has every stage before."""
    stages = [
        getattr(trial, section) for section in BEFORE_TARGET[1 : BEFORE_TARGET.index(name) + 1]
    ]
    return stages[-1] is not None and all(
        stage is None or stage.seed == "shared" for stage in stages
    )


_LARGEST_RATE = 1.0
"""AdamW moves every weight by about the learning rate in each step."""


def misleading(trials: Sequence[TrialSpec], facts: Facts) -> Iterator[Problem]:
    """Key, what may mislead, what would be right; ``trials`` are the probes of a sweep."""
    for trial in trials:
        yield from _steps_are_huge(trial)
        yield from _nothing_is_transferred(trial, facts)


def _steps_are_huge(trial: TrialSpec) -> Iterator[Problem]:
    for name in TRAINED:
        section = getattr(trial, name)
        if section is not None and section.learning_rate >= _LARGEST_RATE:
            yield (
                f"{name}.learning_rate",
                f"each step of AdamW moves every weight by about {section.learning_rate:g}",
                "encoders are trained with 1e-6 to 1e-3",
            )


def _nothing_is_transferred(trial: TrialSpec, facts: Facts) -> Iterator[Problem]:
    task, source = facts.tasks[trial.target.task], trial.target.source_language
    if trial.evaluate.languages == "all" and task.languages("test") == (source,):
        yield (
            "evaluate.languages",
            f"{task.name} has a test set in {source!r} alone, so no transfer is scored",
            f"test sets of target languages{task.file_of('LANGUAGE', 'test')}",
        )


def budget_of_gpus_is_spent(sweep: SweepSpec, trials: Sequence[TrialSpec]) -> Iterator[Problem]:
    resources = sweep.settings.resources
    has_gpus = any(resources.of(trial.model.name).gpus_per_worker for trial in trials)
    if sweep.settings.budget.gpu_hours is not None and not has_gpus:
        yield (
            "budget.gpu_hours",
            "ends nothing, because no trial has a GPU",
            "give budget.hours, or resources.gpus_per_worker",
        )


def check(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """All problems of a sweep, each once, in the order of the probes."""
    problems: list[Problem] = []
    errors: list[SpecError] = []
    trials: list[TrialSpec] = []
    for tree, _ in probes(sweep.space, facts.model_bounds):
        try:
            trial = sweep.trial(tree)
        except SpecErrors as refused:
            errors += refused.problems
            continue
        trials.append(trial)
        errors += _as_errors(
            sweep, (problem for check in CHECKS for problem in check(trial, facts, sweep))
        )
    problems += check_intermediate.sampling_has_several(trials, facts)
    problems += early_stop_acts(sweep, facts, trials)
    problems += averages_act(trials, facts)
    problems += (
        (
            f"resources.by_model.{model}",
            "no trial of this sweep has this model",
            nearest(model, facts.model_names),
        )
        for model in sweep.settings.resources.by_model
        if model not in facts.model_names
    )
    errors += _as_errors(sweep, problems)
    errors += point_problems(sweep, facts.model_bounds)
    unique: dict[str, SpecError] = {}
    for error in errors:
        unique.setdefault(str(error), error)
    return list(unique.values())


def _as_errors(sweep: SweepSpec, problems: Iterable[Problem]) -> Iterator[SpecError]:
    for key, problem, remedy in problems:
        yield sweep.document.error(problem, key=key, remedy=remedy)


def warnings_of(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """What a sweep without problems (:func:`check`) can be run with, and what may mislead."""
    trials = [sweep.trial(tree) for tree, _ in probes(sweep.space, facts.model_bounds)]
    by_key: dict[str, Problem] = {}
    for problem in (
        *early_stop_acts_on_all(sweep, facts, trials),
        *short_trainings(sweep, trials, facts),
        *budget_of_gpus_is_spent(sweep, trials),
        *misleading(trials, facts),
    ):
        by_key.setdefault(problem[0], problem)
    return [*shared_trainings(sweep, facts), *_as_errors(sweep, by_key.values())]


def most_configurations(sweep: SweepSpec, facts: Facts) -> int:
    """The smaller of ``search.trials`` and the number of configurations in the space."""
    num_possible = num_configurations(sweep.space, facts.model_bounds)
    return int(min(sweep.settings.search.trials, num_possible))


def lengths_fit(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    longest = facts.models[trial.model.label].max_positions
    for name in TRAINED:
        section = getattr(trial, name)
        if section is not None and (section.max_length or 0) > longest:
            yield (
                f"{name}.max_length",
                f"{trial.model.name} reads at most {longest} pieces, not {section.max_length}",
                f"at most {longest}",
            )


def batches_split_evenly(trial: TrialSpec, _: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    resources = sweep.settings.resources.of(trial.model.name)
    for name in TRAINED:
        section = getattr(trial, name)
        if section is None:
            continue
        share, rest = divmod(section.batch_size, resources.workers)
        if rest or share % min(resources.micro_batch or share, share or 1):
            yield (
                f"{name}.batch_size",
                f"{section.batch_size} cannot be split evenly over {resources.workers} workers "
                f"with micro-batches of {resources.micro_batch or share}",
                "a multiple of workers x micro_batch",
            )


CHECKS: tuple[Callable[[TrialSpec, Facts, SweepSpec], Iterator[Problem]], ...] = (
    *check_target.CHECKS,
    *check_intermediate.CHECKS,
    *check_few_shot.CHECKS,
    *check_evaluation.CHECKS,
    *check_alignment.CHECKS,
    lengths_fit,
    batches_split_evenly,
)
