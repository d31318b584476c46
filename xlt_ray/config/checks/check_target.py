"""Checks of the target stage and of few shots after it.

Hybrid batches take *translated* text where the task has training rows under the same ids in other
languages and its kind lets sentences change their language; otherwise a lexicon *switches* words.
"""

from __future__ import annotations

from collections.abc import Iterator

from xlt_ray.config.checks import Problem, listed, trainable
from xlt_ray.config.facts import Facts
from xlt_ray.config.methods import AugmentRobust, DlfaFusion, NoPeft
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Intermediate, Target, TrialSpec
from xlt_ray.errors import nearest


def hybrid_has_text(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    hybrid = trial.target.hybrid
    if not hybrid.is_used:
        idle = sorted(hybrid.model_fields_set - {"mono"})
        if idle and "ratio" not in idle:
            yield (
                f"target.hybrid.{idle[0]}",
                "no batch is cross-lingual without a ratio",
                "set ratio to the share of cross-lingual batches, for example 0.5",
            )
        return
    key, remedy = ("ratio", "ratio: 0") if hybrid.ratio > 0 else ("mono", "mono: source")
    task, source = facts.tasks[trial.target.task], trial.target.source_language
    known = set(hybrid.translations(task, source))
    if hybrid.text == "translated" and not known:
        yield "target.hybrid.text", f"{task.name} has no translated training text", "text: switched"
        return
    if known and not task.is_parallel:
        yield (
            f"target.hybrid.{key}",
            f"rows of {task.name} in several languages are not translations of each other, "
            "so their sentences cannot be mixed",
            "text: switched, or is_parallel: true in the task's file where rows of one id are",
        )
        return
    if hybrid.mono == "uniform" and not known:
        yield (
            "target.hybrid.mono",
            f"uniform needs training text of {task.name} that is translated row by row, and "
            + ("text is switched" if hybrid.text == "switched" else "the data has none"),
            "mono: source",
        )
        return
    if hybrid.languages == ():
        yield "target.hybrid.languages", "the list is empty", f"name at least one, or {remedy}"
    if not known and source in facts.lexicon:
        known = set(facts.lexicon[source].languages)
    if not known:
        yield (
            "target.hybrid.ratio",
            f"{task.name} has neither translated training text nor a lexicon from {source!r}",
            "ratio: 0, or put word lists into lexicon/{source}-{target}.tsv of the data",
        )
    for language in hybrid.languages if isinstance(hybrid.languages, tuple) else ():
        if known and language not in known:
            yield (
                "target.hybrid.languages",
                f"there is no training text to mix in for {language!r}",
                f"available: {listed(known)}",
            )


def scaled_batches_are_whole(trial: TrialSpec, _: Facts, __: SweepSpec) -> Iterator[Problem]:
    hybrid = trial.target.hybrid
    if hybrid.mixing == "in_batch" and hybrid.batch_scale != 1.0:
        yield (
            "target.hybrid.batch_scale",
            "mixing: in_batch has no cross-lingual batches to scale",
            "batch_scale: 1.0, or mixing: per_batch",
        )


def fusion_is_not_too_narrow(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    reduction = getattr(trial.target.fusion, "reduction", None)
    width, narrowest = facts.models[trial.model.label].hidden_size, DlfaFusion.narrowest
    if reduction is not None and width // reduction < narrowest:
        yield (
            "target.fusion.reduction",
            f"of the width of {trial.model.name}, {width}, it leaves {width // reduction}",
            f"at most {width // narrowest}, so that {narrowest} are left",
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
    task, source = facts.tasks[trial.target.task], trial.target.source_language
    yield from trainable(task, source, trial.target.size, "target")
    dev = task.languages("dev")
    if source not in dev:
        yield (
            "target.source_language",
            f"{task.name} has no dev set in {source!r} to select on",
            nearest(source, dev, limit=40) + task.file_of(source, "dev"),
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
            f"the data has no list of neighbours of words in {source!r}",
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
    for coverage in facts.coverage:
        if not coverage.share:
            yield (
                coverage.key,
                f"{coverage.words} has no word of {coverage.text}, so nothing would be replaced",
                "use words as the text writes them, separated by spaces",
            )


def shots_are_there(trial: TrialSpec, facts: Facts, _: SweepSpec) -> Iterator[Problem]:
    settings = trial.few_shot
    if settings is None:
        return
    task, source = facts.tasks[trial.target.task], trial.target.source_language
    language, split = settings.language, settings.split
    if language == source:
        yield (
            "few_shot.language",
            f"{language!r} is the source language, which is always trained on",
            "a target language, or few_shot: null",
        )
        return
    languages = set(task.languages(split)) - {source}
    examples = task.splits.get((language, split))
    if examples is None and not languages:
        yield (
            "few_shot.split",
            f"{task.name} has no {split} set with labels in any target language",
            f"split: {'dev' if split == 'train' else 'train'}, or another task",
        )
    elif examples is None:
        yield (
            "few_shot.language",
            f"{task.name} has no {split} set with labels in {language!r}",
            nearest(language, languages, limit=60),
        )
    elif settings.shots > examples.num_examples:
        yield (
            "few_shot.shots",
            f"the {split} set of {task.name} in {language!r} has {examples.num_examples} examples, "
            f"not {settings.shots}",
            f"at most {examples.num_examples}",
        )
    if language not in task.languages("test"):
        yield (
            "few_shot.language",
            f"{task.name} has no test set in {language!r} to evaluate on",
            nearest(language, set(task.languages("test")) - {source}),
        )


def shots_are_not_selected_on(trial: TrialSpec, _: Facts, sweep: SweepSpec) -> Iterator[Problem]:
    if trial.few_shot is None:
        return
    if sweep.is_oracle:
        yield (
            "objective.languages",
            "trials with few_shot are trained on labels that the objective would read",
            "objective.languages: source",
        )
    elif trial.evaluate.dev == "all":
        yield (
            "evaluate.dev",
            "trials with few_shot can train on dev sets of target languages",
            "evaluate.dev: source",
        )


def zero_shot_alone_is_examined(trial: TrialSpec, _: Facts, __: SweepSpec) -> Iterator[Problem]:
    """Tables by configuration do not name shots, so they hold zero-shot trials alone."""
    if trial.few_shot is None:
        return
    is_set = {
        "evaluate.pairs": trial.evaluate.pairs != "none",
        "evaluate.also": bool(trial.evaluate.also),
        "evaluate.diagnostics": bool(trial.evaluate.diagnostics),
        "target.average": trial.target.average > 1,
    }
    for key in (key for key, value in is_set.items() if value):
        yield (
            key,
            "with few_shot only the task itself is scored, with the last weights",
            "leave it out, and use a sweep without few_shot for it, which shares the stages",
        )


def averaged_weights_are_the_encoders(
    trial: TrialSpec, _: Facts, __: SweepSpec
) -> Iterator[Problem]:
    """The mean of factors is not that of their products, which are merged into the encoder."""
    if trial.target.average > 1 and trial.target.peft != NoPeft():
        yield (
            "target.average",
            "with peft no weights of the encoder are trained that could be averaged",
            "average: 1, or peft: {method: none}",
        )


CHECKS = (
    fusion_is_not_too_narrow,
    fused_states_are_read,
    target_can_be_trained,
    hybrid_has_text,
    scaled_batches_are_whole,
    rankings_are_trained,
    augmentation_has_neighbours,
    words_are_covered,
    shots_are_there,
    shots_are_not_selected_on,
    zero_shot_alone_is_examined,
    averaged_weights_are_the_encoders,
)
