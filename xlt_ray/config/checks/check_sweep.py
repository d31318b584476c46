"""Checks of a whole sweep: :func:`check` finds errors, :func:`warnings_of` what may mislead.

Checks run on every probe of the space. Nothing is trained or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from xlt_ray.config.checks import Problem, check_evaluation, check_pretraining, check_target
from xlt_ray.config.checks.check_schedules import (
    TRAINED,
    Trials,
    averages_act,
    early_stop_acts,
    early_stop_acts_on_all,
    short_trainings,
)
from xlt_ray.config.facts import Facts
from xlt_ray.config.methods import Contrastive, WsdSchedule
from xlt_ray.config.search_space import distributions_in, num_configurations, probes
from xlt_ray.config.seed_race import SeedRace
from xlt_ray.config.sweep import SweepSpec, point_problems
from xlt_ray.config.trial import TrialSpec
from xlt_ray.errors import SpecError, SpecErrors, nearest

BEFORE_TARGET = ("model", "align", "intermediate")
"""Sections that decide what the target training starts from, in the order of a path."""
LARGEST_RATE = 1.0
"""AdamW moves every weight by about the learning rate in each step."""


def check(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """All problems of a sweep, each once, in the order of the probes."""
    errors: list[SpecError] = []
    trials: list[TrialSpec] = []
    for tree, _ in probes(sweep.space, facts.model_bounds):
        try:
            trial = sweep.trial(tree)
        except SpecErrors as refused:
            errors += refused.problems
            continue
        trials.append(trial)
        for check_trial in CHECKS:
            errors += _as_errors(sweep, check_trial(trial, facts, sweep))
    trained = [
        trial
        for trial in trials
        if (trial.target.source_language, "train") in facts.tasks[trial.target.task].splits
    ]
    errors += _as_errors(sweep, check_pretraining.sampling_has_several(trials, facts))
    errors += _as_errors(sweep, early_stop_acts(sweep, facts, trained))
    errors += _as_errors(sweep, averages_act(trained, facts))
    errors += _as_errors(sweep, models_are_searched(sweep, facts))
    errors += point_problems(sweep, facts.model_bounds)
    unique: dict[str, SpecError] = {}
    for error in errors:
        unique.setdefault(str(error), error)
    return list(unique.values())


def warnings_of(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """What may mislead in a sweep without problems, one warning for a key."""
    trials = [sweep.trial(tree) for tree, _ in probes(sweep.space, facts.model_bounds)]
    by_key: dict[str, Problem] = {}
    for problem in (
        *stages_are_trained_per_seed(sweep, trials),
        *race_has_losers(sweep, facts),
        *early_stop_acts_on_all(sweep, facts, trials),
        *short_trainings(sweep, facts, trials),
        *gpu_hours_are_counted(sweep, trials),
        *steps_are_small(trials),
        *something_is_transferred(trials, facts),
    ):
        by_key.setdefault(problem[0], problem)
    return list(_as_errors(sweep, by_key.values()))


def most_configurations(sweep: SweepSpec, facts: Facts) -> int:
    """The smaller of ``search.trials`` and the number of configurations in the space."""
    num_possible = num_configurations(sweep.space, facts.model_bounds)
    # Values of a fidelity make no further ones.
    num_possible /= max(len(sweep.fidelity_values), 1)
    return int(min(sweep.settings.search.trials, num_possible))


def _as_errors(sweep: SweepSpec, problems: Iterable[Problem]) -> Iterator[SpecError]:
    for key, problem, remedy in problems:
        yield sweep.document.error(problem, key=key, remedy=remedy)


def stages_are_trained_per_seed(sweep: SweepSpec, trials: Trials) -> Iterator[Problem]:
    """No stage that differs between configurations is trained once for all repeats."""
    seeds = sweep.settings.search.most_seeds
    for name, training in (("align", "alignment"), ("intermediate", "intermediate training")):
        deciding = BEFORE_TARGET[: BEFORE_TARGET.index(name) + 1]
        variants = {
            tuple(repr(getattr(trial, section)) for section in deciding) for trial in trials
        }
        is_shared = any(_is_shared(trial, deciding[1:]) for trial in trials)
        if seeds == 1 or len(variants) == 1 or not is_shared:
            continue
        paths = (path for path, _ in distributions_in(sweep.space.tree))
        searched = dict.fromkeys(path for path in paths if path.partition(".")[0] in deciding)
        yield (
            f"{name}.seed",
            f"the {seeds} seeds of a configuration share one {training}, so a search over "
            f"{' and '.join(searched)} compares one such training each, luck included",
            f"{name}.seed: per_trial trains one for each seed (xlt confirm: of the winner)",
        )


def race_has_losers(sweep: SweepSpec, facts: Facts) -> Iterator[Problem]:
    """A race of seeds or a fidelity ends with fewer configurations than it begins with."""
    seeds, num_asked = sweep.settings.search.seeds, most_configurations(sweep, facts)
    if isinstance(seeds, SeedRace) and num_asked <= seeds.race.keep:
        yield (
            "search.seeds.race.keep",
            f"of {num_asked} configurations it keeps all, so each gets {seeds.race.most} seeds",
            f"search.seeds: {seeds.race.most}, or more search.trials",
        )
    fidelity = sweep.settings.search.fidelity
    if fidelity is not None and num_asked <= fidelity.keep:
        yield (
            "search.fidelity.keep",
            f"of {num_asked} configurations it keeps all, so each is trained with every value",
            f"{fidelity.over}: {sweep.fidelity_values[-1]}, or more search.trials",
        )


def _is_shared(trial: TrialSpec, sections: tuple[str, ...]) -> bool:
    """Whether repeats of a trial share the stage of the last section, which it has."""
    stages = [getattr(trial, section) for section in sections]
    return stages[-1] is not None and all(
        stage is None or stage.seed == "shared" for stage in stages
    )


def steps_are_small(trials: Trials) -> Iterator[Problem]:
    for trial in trials:
        for name in TRAINED:
            section = getattr(trial, name)
            if section is not None and section.learning_rate >= LARGEST_RATE:
                yield (
                    f"{name}.learning_rate",
                    f"each step of AdamW moves every weight by about {section.learning_rate:g}",
                    "encoders are trained with 1e-6 to 1e-3",
                )


def something_is_transferred(trials: Trials, facts: Facts) -> Iterator[Problem]:
    for trial in trials:
        task, source = facts.tasks[trial.target.task], trial.target.source_language
        if trial.evaluate.languages == "all" and task.languages("test") == (source,):
            yield (
                "evaluate.languages",
                f"{task.name} has a test set in {source!r} alone, so no transfer is scored",
                f"test sets of target languages{task.file_of('LANGUAGE', 'test')}",
            )


def gpu_hours_are_counted(sweep: SweepSpec, trials: Trials) -> Iterator[Problem]:
    resources = sweep.settings.resources
    has_gpus = any(resources.of(trial.model.name).gpus_per_worker for trial in trials)
    if sweep.settings.budget.gpu_hours is not None and not has_gpus:
        yield (
            "budget.gpu_hours",
            "ends nothing, because no trial has a GPU",
            "give budget.hours, or resources.gpus_per_worker",
        )


def models_are_searched(sweep: SweepSpec, facts: Facts) -> Iterator[Problem]:
    for model in sweep.settings.resources.by_model:
        if model not in facts.model_names:
            yield (
                f"resources.by_model.{model}",
                "no trial of this sweep has this model",
                nearest(model, facts.model_names),
            )


def layers_exist(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    whole, depth = facts.models[trial.model.label].num_layers, trial.model.num_layers(facts)
    if depth > whole:
        yield (
            "model.layers",
            f"{depth} layers cannot be kept of {trial.model.name}, which has {whole}",
            f"at most {whole}",
        )
    fused = getattr(trial.target.fusion, "layer", None)
    if fused is not None and fused >= depth:
        yield (
            "target.fusion.layer",
            f"{fused} is not below the last layer of {trial.model.title}, which has {depth}",
            f"at most {depth - 1}, or write the bound num_layers - 1",
        )
    frozen = trial.model.freeze.layers
    if frozen >= depth:
        yield (
            "model.freeze.layers",
            f"{frozen} leaves none of the {depth} layers of {trial.model.name} to be trained",
            f"at most {depth - 1}",
        )
    read = {
        "align.layer": getattr(trial.align, "layer", None),
        "evaluate.retrieval_layer": trial.evaluate.retrieval_layer,
    }
    for key, layer in read.items():
        if layer is not None and layer > depth:
            yield (
                key,
                f"{layer} is above the last layer of {trial.model.title}, which has {depth}",
                f"at most {depth}, or write the bound num_layers",
            )


def sentences_are_seen_whole(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    is_causal, model = facts.models[trial.model.label].is_causal, trial.model
    if not is_causal and model.attention == "bidirectional":
        yield (
            "model.attention",
            f"{model.name} is not causal: its pieces see those after them as it is",
            "leave it out",
        )
    if not is_causal or model.attention == "bidirectional":
        return
    reason = f"in {model.name}, which is causal, the first piece is the same for every sentence"
    if model.pooling == "first":
        yield ("model.pooling", reason, "last or mean, or model.attention: bidirectional")
    if getattr(trial.target.fusion, "placement", "pieces") == "first":
        yield ("target.fusion.placement", reason, "placement: pieces or mean")


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


def rows_may_be_moved(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    """No training by pieces whose batches have to stay as they are drawn."""
    own: tuple[str, ...] = (trial.target.task,)
    tasks = {"target": own, "few_shot": own}
    if trial.intermediate is not None:
        tasks["intermediate"] = trial.intermediate.tasks
    for name in TRAINED:
        section = getattr(trial, name)
        if section is None or section.batching == "examples":
            continue
        rankings = [task for task in tasks.get(name, ()) if facts.tasks[task].kind == "ranking"]
        if rankings or isinstance(section, Contrastive):
            yield (
                f"{name}.batching",
                f"{rankings[0] if rankings else 'contrastive'} compares the rows of a batch, so "
                "they stay as they are drawn",
                "batching: examples",
            )
        elif isinstance(getattr(section, "schedule", None), WsdSchedule) and section.epochs == 1:
            yield (
                f"{name}.batching",
                "under wsd a smaller size is the beginning of a larger one, so batches stay as "
                "they are drawn",
                "batching: examples, or schedule: linear",
            )


CHECKS: tuple[Callable[[TrialSpec, Facts, SweepSpec], Iterator[Problem]], ...] = (
    *check_target.CHECKS,
    *check_pretraining.CHECKS,
    *check_evaluation.CHECKS,
    layers_exist,
    sentences_are_seen_whole,
    lengths_fit,
    batches_split_evenly,
    rows_may_be_moved,
)
