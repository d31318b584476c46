"""Checks of the alignment stage: its parallel text and lexicon, its layer, its batches."""

from __future__ import annotations

from collections.abc import Iterator

from xlt_ray.config.facts import Facts
from xlt_ray.config.methods import Contrastive
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import Problem, TrialSpec, listed
from xlt_ray.errors import nearest


def alignment_has_text(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    align = trial.align
    if align is None:
        return
    known = tuple(facts.parallel)
    languages = known if align.languages == "all" else align.languages
    if not known:
        problem = "the data has no parallel text"
        yield "align.languages", problem, "put parallel/CORPUS/LANGUAGE.tsv into the data"
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


CHECKS = (
    alignment_has_text,
    alignment_layer_exists,
    positions_can_be_reset,
    negatives_are_in_one_pass,
)
