"""Checks of the stages before the target: alignment, and training on intermediate tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xlt_ray.config.checks import Problem, listed, trainable
from xlt_ray.config.facts import Facts
from xlt_ray.config.methods import Contrastive, WsdSchedule
from xlt_ray.config.mixture import mixture_of, own_language, text_languages
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import TrialSpec, trunk_steps
from xlt_ray.errors import nearest


def alignment_has_text(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    align = trial.align
    if align is None:
        return
    known = tuple(facts.parallel)
    languages = known if align.languages == "all" else align.languages
    if not known:
        yield (
            "align.languages",
            "the data has no parallel text",
            "put parallel/CORPUS/LANGUAGE.tsv into the data",
        )
        return
    if len(set(languages)) < 2:
        yield "align.languages", "alignment needs two languages", f"available: {listed(known)}"
    for language in languages:
        if language not in known:
            yield (
                "align.languages",
                f"there is no parallel text in {language!r}",
                nearest(language, known, limit=40),
            )
    if getattr(align, "objective", "") == "code_switch_mlm" and not any(
        set(facts.lexicon[language].languages) & set(languages) - {language}
        for language in languages
        if language in facts.lexicon
    ):
        yield (
            "align.objective",
            f"code_switch_mlm needs a lexicon between the languages {listed(languages)}, and the "
            "data has none",
            "use objective: tlm, or put word lists into lexicon/{source}-{target}.tsv",
        )


def positions_can_be_reset(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    model = facts.models[trial.model.label]
    if getattr(trial.align, "reset_positions", False) and not model.reads_positions:
        yield (
            "align.reset_positions",
            f"{model.name} reads distances of pieces, not their positions",
            "leave it out, or choose another model",
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


def intermediate_can_be_trained(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    settings, target = trial.intermediate, trial.target.source_language
    if settings is None:
        return
    mixture = mixture_of(settings, target, facts.tasks)
    tasks = [facts.tasks[name] for name in settings.tasks]
    names = " and ".join(settings.tasks)
    if settings.languages is None:
        is_one = len(tasks) == 1 and settings.mlm is None
        for task in tasks:
            size = settings.size if is_one else "all"
            yield from trainable(task, own_language(settings, target), size, "intermediate")
        if is_one:
            return
    else:
        trained = {language for task in tasks for language in task.languages("train")}
        for language in settings.languages if settings.languages != "all" else ():
            if language not in trained:
                verb = "has" if len(tasks) == 1 else "have"
                yield (
                    "intermediate.languages",
                    f"{names} {verb} no training data in {language!r}",
                    nearest(language, trained),
                )
        for task in tasks:
            if not task.languages("train"):
                yield from trainable(task, "", "all", "intermediate")
            elif not mixture.of(task.name):
                yield (
                    "intermediate.languages",
                    f"{task.name} has no training data in any of the languages",
                    f"add one of its languages: {listed(task.languages('train'))}",
                )
    most = mixture.size("all")
    if mixture.tasks == settings.tasks and mixture.size(settings.size) > most:
        counted = "" if mixture.cap is None else f", at most {mixture.cap} of each counted"
        yield (
            "intermediate.size",
            f"{names}: there are {most} training examples in {listed(mixture.languages)}{counted}, "
            f"not {settings.size}",
            f"at most {most}, or all",
        )


def target_labels_stay_unseen(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    """No scored task is trained in a language in which it is scored, but in the source language."""
    settings, source = trial.intermediate, trial.target.source_language
    if settings is None:
        return
    for name in (trial.target.task, *trial.evaluate.also):
        scored = facts.tasks[name]
        if not KINDS[scored.kind].is_trained:
            continue
        tested = dict.fromkeys(trial.evaluate.languages_tested(scored, source), "as zero-shot")
        if trial.few_shot is not None and name == trial.target.task:
            tested[trial.few_shot.language] = "after few shots"
        for dataset in mixture_of(settings, source, facts.tasks).datasets:
            if dataset.language == source or dataset.language not in tested:
                continue
            trained = facts.tasks[dataset.task].splits[dataset.language, "train"]
            own = scored.splits.get((dataset.language, "train"))
            if dataset.task == name or (own is not None and own.is_same(trained)):
                key = "source_language" if settings.languages is None else "languages"
                yield (
                    f"intermediate.{key}",
                    f"{name} would be trained with labels in {dataset.language!r}, in which it is "
                    f"scored {tested[dataset.language]}",
                    "another task or language, or one that is not scored",
                )


def sampling_has_several(trials: Iterable[TrialSpec], facts: Facts) -> Iterator[Problem]:
    """A sweep that sets ``sampling`` draws among several datasets in some trial."""
    has_sampling = False
    for trial in trials:
        settings = trial.intermediate
        if settings is None or "sampling" not in settings.model_fields_set:
            continue
        has_sampling = True
        if len(mixture_of(settings, trial.target.source_language, facts.tasks).datasets) > 1:
            return
    if has_sampling:
        yield (
            "intermediate.sampling",
            "with one task in one language there is nothing to sample",
            "intermediate.task: [ONE, OTHER], or several intermediate.languages, or no sampling",
        )


def masked_text_is_there(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    settings = trial.intermediate
    if settings is None or settings.mlm is None:
        return
    languages = text_languages(settings, trial.target.source_language, facts.parallel)
    if not languages:
        yield "intermediate.mlm", "the data has no text for masked LM", "mlm: null"
    for language in languages:
        if language not in facts.parallel:
            yield (
                "intermediate.mlm.languages",
                f"there is no text for masked LM in {language!r}",
                f"available: {listed(facts.parallel)}",
            )


def ladder_can_be_climbed(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    settings = trial.intermediate
    if settings is None or not isinstance(settings.schedule, WsdSchedule):
        return
    if "warmup" in settings.model_fields_set:
        yield (
            "intermediate.warmup",
            "a share of all steps differs from size to size, so wsd does not take it",
            "intermediate.schedule: {method: wsd, warmup_examples: N}",
        )
    if settings.epochs > 1 and settings.schedule.several_epochs == "refuse":
        yield (
            "intermediate.epochs",
            f"{settings.epochs} passes over n examples are not the beginning of a training on "
            "more, so sizes would share nothing under wsd",
            "epochs: 1, or schedule: linear, or schedule: {method: wsd, several_epochs: "
            "separate} to train every size by itself",
        )
        return
    mixture = mixture_of(settings, trial.target.source_language, facts.tasks)
    if not mixture.datasets:
        return
    size, batch_size = mixture.size(settings.size), settings.batch_size
    num_steps = mixture.num_steps(size, settings.epochs, batch_size)
    steps = trunk_steps(num_steps, settings.schedule.decay)
    if settings.schedule.warmup_examples > steps * batch_size:
        yield (
            "intermediate.schedule.warmup_examples",
            f"the rate of size {size} would still rise after {steps * batch_size} "
            "examples, where its decay begins",
            f"at most {steps * batch_size}, or larger sizes only",
        )


CHECKS = (
    alignment_has_text,
    positions_can_be_reset,
    negatives_are_in_one_pass,
    intermediate_can_be_trained,
    target_labels_stay_unseen,
    masked_text_is_there,
    ladder_can_be_climbed,
)
