"""Cross-checks: what a sweep asks against what its models and data have.

Each check is one small function over a concrete trial and the facts; :func:`check` runs them on
every probe of the space and gathers all problems. Nothing is trained or written here.

Whether repeats of a configuration can tell what a sweep asks.

Repeats that share a training (``seed: shared``) are one sample of it, however many they are. Where
what is searched over decides that training, each candidate stands on the luck of one.

What can be run and is seldom meant: warnings of a sweep that fits its models and data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from xlt_ray.config.checks.check_evaluation import (
    diagnostics_have_text,
    further_tasks_fit,
    pairs_are_parallel,
    retrieval_layer_exists,
)
from xlt_ray.config.checks.check_few_shot import (
    shots_are_not_selected_on,
    shots_are_there,
    zero_shot_alone_is_examined,
)
from xlt_ray.config.checks.check_hybrid import hybrid_has_text, scaled_batches_are_whole
from xlt_ray.config.checks.check_intermediate import (
    intermediate_can_be_trained,
    ladder_can_be_climbed,
    masked_text_is_there,
    sampling_has_several,
    target_labels_stay_unseen,
)
from xlt_ray.config.checks.check_schedules import (
    averages_act,
    early_stop_acts,
    early_stop_acts_on_all,
    short_trainings,
)
from xlt_ray.config.facts import Facts
from xlt_ray.config.methods import AugmentRobust, Contrastive, DlfaFusion
from xlt_ray.config.search_space import distributions_in, num_configurations, probes
from xlt_ray.config.sweep import SweepSpec, point_problems
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Intermediate, Problem, Target, TrialSpec, listed, trainable
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
    trees = probes(sweep.space, lambda name: facts.models[name].bounds())
    trials = [sweep.trial(tree) for tree, _ in trees]
    found = []
    for name, training in (("align", "alignment"), ("intermediate", "intermediate training")):
        deciding = BEFORE_TARGET[: BEFORE_TARGET.index(name) + 1]
        variants = {tuple(repr(getattr(trial, one)) for one in deciding) for trial in trials}
        if len(variants) < 2 or not any(_is_shared(trial, name) for trial in trials):
            continue
        paths = (path for path, _ in distributions_in(sweep.space.tree))
        searched = dict.fromkeys(path for path in paths if path.partition(".")[0] in deciding)
        found.append(
            sweep.document.error(
                f"the {seeds} seeds of a configuration share one {training}, so a search over "
                f"{' and '.join(searched)} compares one such training each, luck included",
                key=f"{name}.seed",
                remedy=f"{name}.seed: per_trial trains one for each seed (xlt confirm: of the "
                "winner)",
            )
        )
    return found


def _is_shared(trial: TrialSpec, name: str) -> bool:
    """Whether repeats of this trial share the stage: it has it, and so has every stage before."""
    stages = [getattr(trial, one) for one in BEFORE_TARGET[1 : BEFORE_TARGET.index(name) + 1]]
    return stages[-1] is not None and all(
        stage is None or stage.seed == "shared" for stage in stages
    )


_SECTIONS = ("align", "intermediate", "target", "few_shot")
_LARGEST_RATE = 1.0
"""Of AdamW, which moves every weight by about the learning rate in each step."""


def misleading(trials: Sequence[TrialSpec], facts: Facts) -> Iterator[Problem]:
    """Key, what may mislead, what would be right; ``trials`` are the probes of a sweep."""
    for trial in trials:
        yield from _steps_are_huge(trial)
        yield from _nothing_is_transferred(trial, facts)


def _steps_are_huge(trial: TrialSpec) -> Iterator[Problem]:
    for name in _SECTIONS:
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


_TRAINED = ("align", "intermediate", "target", "few_shot")


def check(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """All problems of a sweep, each once, in the order of the probes."""
    document = sweep.document
    found: dict[str, SpecError] = {}
    trials: list[TrialSpec] = []
    for tree, _ in probes(sweep.space, lambda name: facts.models[name].bounds()):
        try:
            trial = sweep.trial(tree)
        except SpecErrors as errors:
            found.update({str(problem): problem for problem in errors.problems})
            continue
        trials.append(trial)
        for check in CHECKS:
            for key, problem, remedy in check(trial, facts, sweep):
                error = document.error(problem, key=key, remedy=remedy)
                found.setdefault(str(error), error)
    of_all = (
        *sampling_has_several(trials, facts),
        *early_stop_acts(sweep, facts, trials),
        *averages_act(trials, facts),
    )
    for key, problem, remedy in of_all:
        error = document.error(problem, key=key, remedy=remedy)
        found.setdefault(str(error), error)
    for model in sweep.settings.resources.by_model:
        if model not in facts.model_names:
            error = document.error(
                "no trial of this sweep has this model",
                key=f"resources.by_model.{model}",
                remedy=nearest(model, facts.model_names),
            )
            found.setdefault(str(error), error)
    for error in point_problems(sweep, lambda name: facts.models[name].bounds()):
        found.setdefault(str(error), error)
    return list(found.values())


def warnings_of(sweep: SweepSpec, facts: Facts) -> list[SpecError]:
    """What a sweep without problems (:func:`check`) can be run with, and what may mislead."""
    trees = probes(sweep.space, lambda name: facts.models[name].bounds())
    trials = [sweep.trial(tree) for tree, _ in trees]
    told: dict[str, tuple[str, str]] = {}
    for key, problem, remedy in (
        *early_stop_acts_on_all(sweep, facts, trials),
        *short_trainings(sweep, trials, facts),
        *budget_of_gpus_is_spent(sweep, trials),
        *misleading(trials, facts),
    ):
        told.setdefault(key, (problem, remedy))
    return shared_trainings(sweep, facts) + [
        sweep.document.error(problem, key=key, remedy=remedy)
        for key, (problem, remedy) in told.items()
    ]


def most_configurations(sweep: SweepSpec, facts: Facts) -> int:
    """Configurations that a sweep tries at most: as asked for, or as many as its space has."""
    there = num_configurations(sweep.space, lambda name: facts.models[name].bounds())
    return int(min(sweep.settings.search.trials, there))


def fusion_layer_exists(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    layer = getattr(trial.target.fusion, "layer", None)
    depth = facts.models[trial.model.label].num_layers
    if layer is not None and layer >= depth:
        yield (
            "target.fusion.layer",
            f"{layer} is not below the last layer of {trial.model.name}, which has {depth}",
            f"at most {depth - 1}, or write the bound num_layers - 1",
        )


def fused_states_are_read(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    placement = getattr(trial.target.fusion, "placement", "pieces")
    task = facts.tasks[trial.target.task]
    if placement != "pieces" and KINDS[task.kind].is_by_piece:
        yield (
            "target.fusion.placement",
            f"{placement} leaves one state a sentence, and {task.name} needs one for every piece",
            "placement: pieces, or a task that is about whole sentences",
        )


def target_can_be_trained(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    task = facts.tasks[trial.target.task]
    yield from trainable(task, trial.target.source_language, trial.target.size, "target")
    dev = task.languages("dev")
    if trial.target.source_language not in dev:
        yield (
            "target.source_language",
            f"{task.name} has no dev set in {trial.target.source_language!r} to select on",
            nearest(trial.target.source_language, dev, limit=40)
            + task.file_of(trial.target.source_language, "dev"),
        )


def languages_are_there(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    task = facts.tasks[trial.target.task]
    there = task.languages("test")
    asked = trial.evaluate.languages
    for language in asked if isinstance(asked, tuple) else ():
        if language not in there:
            yield (
                "evaluate.languages",
                f"{task.name} has no test set in {language!r}",
                nearest(language, there, limit=60),
            )
    if asked == "all" and not there:
        yield (
            "target.task",
            f"{task.name} has no test set in any language",
            "choose another task" + task.file_of("LANGUAGE", "test"),
        )


def objective_is_measured(trial: TrialSpec, facts: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    task = facts.tasks[trial.target.task]
    objective = sweep.settings.objective
    if objective.metric not in task.metrics:
        yield (
            "objective.metric",
            f"{task.name} is not scored by {objective.metric!r}",
            nearest(objective.metric, task.metrics),
        )
    dev = task.languages("dev")
    source = trial.target.source_language
    scored = {source} if trial.evaluate.dev == "source" else {source, *task.languages("test")}
    if isinstance(trial.evaluate.languages, tuple):
        scored &= {source, *trial.evaluate.languages}
    scored &= set(dev)
    if isinstance(objective.languages, tuple):
        for language in objective.languages:
            if language not in dev:
                yield (
                    "objective.languages",
                    f"{task.name} has no dev set in {language!r}",
                    nearest(language, dev, limit=40),
                )
            elif language not in scored:
                yield (
                    "objective.languages",
                    f"the dev set in {language!r} is not scored in this sweep",
                    "name the language in evaluate.languages, and write evaluate.dev: all",
                )
    elif objective.languages == "all" and trial.evaluate.dev == "source":
        yield (
            "objective.languages",
            f"of all dev sets that in {source!r} alone is scored in this sweep",
            "objective.languages: source, or evaluate.dev: all",
        )
    elif objective.languages == "target" and not scored - {source}:
        yield (
            "objective.languages",
            f"no dev set of {task.name} in a target language is scored in this sweep",
            "select on the source language, or write evaluate.dev: all",
        )


def rankings_are_trained(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    """Settings of rankings have a task of that kind, and batches have as many wrong candidates."""
    sections: dict[str, tuple[Target | Intermediate, tuple[str, ...]]] = {
        "target": (trial.target, (trial.target.task,))
    }
    if trial.intermediate is not None:
        sections["intermediate"] = (trial.intermediate, trial.intermediate.tasks)
    for name, (section, tasks) in sections.items():
        if "ranking" not in section.model_fields_set:
            continue
        if all(facts.tasks[task].kind != "ranking" for task in tasks):
            yield (
                f"{name}.ranking",
                f"{' and '.join(tasks)} {'is' if len(tasks) == 1 else 'are'} not of the kind "
                "ranking, and nothing else has these settings",
                "leave it out, or choose a task of that kind",
            )
            continue
        rows = section.batch_size
        if name == "target" and trial.target.hybrid.ratio > 0:
            rows = min(rows, max(round(rows * trial.target.hybrid.batch_scale), 1))
        if section.ranking.negatives >= rows:
            yield (
                f"{name}.ranking.negatives",
                f"a batch of {rows} rows has at most {rows - 1} wrong candidates for each",
                f"at most {rows - 1}, or a larger batch",
            )


def augmentation_has_neighbours(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    robust, source = trial.target.robust, trial.target.source_language
    if not isinstance(robust, AugmentRobust):
        return
    if robust.neighbours == "lists" and source not in facts.neighbours:
        yield (
            "target.robust.neighbours",
            f"there is no list of neighbours of words in {source!r}",
            f"put one into neighbours/{source}.tsv of the data (word TAB neighbour), or "
            "neighbours: lexicon",
        )
    if robust.neighbours == "lexicon" and source not in facts.lexicon:
        yield (
            "target.robust.neighbours",
            f"there is no lexicon from {source!r}",
            f"put word lists into lexicon/{source}-TARGET.tsv of the data, or neighbours: lists",
        )


def words_are_covered(_: TrialSpec, facts: Facts, __: SweepSpec) -> Iterator[Problem]:
    for one in facts.coverage:
        if not one.share:
            yield (
                one.key,
                f"{one.words} has no word of {one.text}, so nothing would be replaced",
                "words as the text writes them, separated by blanks",
            )


def alignment_has_text(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    align = trial.align
    if align is None:
        return
    there = tuple(facts.parallel)
    asked = there if align.languages == "all" else align.languages
    if not there:
        problem = "the data has no parallel text"
        yield "align.languages", problem, "put parallel/CORPUS/LANGUAGE.tsv into the data"
        return
    if len(set(asked)) < 2:
        yield "align.languages", "an alignment needs two languages", f"there is: {listed(there)}"
    for language in asked:
        if language not in there:
            yield (
                "align.languages",
                f"there is no parallel text in {language!r}",
                nearest(language, there, limit=40),
            )
    if getattr(align, "objective", "") == "code_switch_mlm" and not any(
        set(facts.lexicon[language].languages) & set(asked) - {language}
        for language in asked
        if language in facts.lexicon
    ):
        yield (
            "align.objective",
            f"code_switch_mlm needs a lexicon between the languages {listed(asked)}, and the data "
            "has none",
            "use objective: tlm, or put word lists into lexicon/{source}-{target}.tsv",
        )


def alignment_layer_exists(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    layer = getattr(trial.align, "layer", None)
    depth = facts.models[trial.model.label].num_layers
    if layer is not None and layer > depth:
        yield (
            "align.layer",
            f"{layer} is above the last layer of {trial.model.name}, which has {depth}",
            f"at most {depth}, or write the bound num_layers",
        )


def positions_can_be_reset(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    model = facts.models[trial.model.label]
    if getattr(trial.align, "reset_positions", False) and not model.reads_positions:
        yield (
            "align.reset_positions",
            f"{model.name} reads distances of pieces, not their positions",
            "leave it out, or choose another model",
        )


def fusion_is_not_too_narrow(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    reduction = getattr(trial.target.fusion, "reduction", None)
    width = facts.models[trial.model.label].hidden_size
    narrowest = DlfaFusion.narrowest
    if reduction is not None and width // reduction < narrowest:
        yield (
            "target.fusion.reduction",
            f"of the width of {trial.model.name}, {width}, it leaves {width // reduction}",
            f"at most {width // narrowest}, so that {narrowest} are left",
        )


def negatives_are_in_one_pass(trial: TrialSpec, _: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    align, resources = trial.align, sweep.settings.resources.of(trial.model.name)
    if not isinstance(align, Contrastive):
        return
    share = align.batch_size // resources.workers
    held = min(resources.micro_batch or share, share)
    if held % align.group_size:
        yield (
            "align.group",
            f"a pass of {held} pairs does not hold whole groups of {align.group_size}",
            f"group: a divisor of {held}, or a larger resources.micro_batch on fewer workers",
        )


def lengths_fit(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    longest = facts.models[trial.model.label].max_positions
    sections = {name: getattr(trial, name) for name in _TRAINED}
    for name, section in sections.items():
        if section is not None and (section.max_length or 0) > longest:
            yield (
                f"{name}.max_length",
                f"{trial.model.name} reads at most {longest} pieces, not {section.max_length}",
                f"at most {longest}",
            )


def batches_split_evenly(trial: TrialSpec, _: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    resources = sweep.settings.resources.of(trial.model.name)
    sections = {name: getattr(trial, name) for name in _TRAINED}
    for name, section in sections.items():
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
    fusion_layer_exists,
    fusion_is_not_too_narrow,
    fused_states_are_read,
    target_can_be_trained,
    intermediate_can_be_trained,
    target_labels_stay_unseen,
    masked_text_is_there,
    ladder_can_be_climbed,
    shots_are_there,
    shots_are_not_selected_on,
    zero_shot_alone_is_examined,
    languages_are_there,
    pairs_are_parallel,
    further_tasks_fit,
    retrieval_layer_exists,
    diagnostics_have_text,
    objective_is_measured,
    hybrid_has_text,
    scaled_batches_are_whole,
    rankings_are_trained,
    augmentation_has_neighbours,
    words_are_covered,
    alignment_has_text,
    alignment_layer_exists,
    positions_can_be_reset,
    negatives_are_in_one_pass,
    lengths_fit,
    batches_split_evenly,
)
