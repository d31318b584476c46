"""Cross-checks between a sweep and the facts about its models and data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from xlt_ray.config.checks.check_sweep import CHECKS, check, warnings_of
from xlt_ray.config.facts import Coverage, Facts, ModelFacts, SplitFacts, TaskFacts
from xlt_ray.config.search_space import probes
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import task_named
from xlt_ray.errors import SpecError

SOUND = """
name: t
data: {source: toy}
model: toy:2x64
target: {task: nli, source_language: qaa}
search: {trials: 2}
"""
ReadSweep = Callable[..., SweepSpec]
Problems = Callable[..., dict[str, SpecError]]
World = Callable[[Facts], Facts]


def with_task(facts: Facts, task: TaskFacts) -> Facts:
    return replace(facts, tasks={**facts.tasks, task.name: task})


def without(facts: Facts, task: str, split: str, *languages: str) -> Facts:
    """The facts without a split of a task in some languages."""
    gone = {(language, split) for language in languages}
    splits = {key: value for key, value in facts.tasks[task].splits.items() if key not in gone}
    return with_task(facts, replace(facts.tasks[task], splits=splits))


def wide(facts: Facts) -> Facts:
    """With parallel rows of the target task, and tasks that fit its head and that do not."""
    nli = facts.tasks["nli"]
    tested = {("qab", "test"): nli.splits["qab", "test"]}
    found = replace(nli, name="found", kind="retrieval", labels=(), splits=tested)
    turned = replace(nli, name="turned", labels=nli.labels[::-1])
    return with_task(with_task(with_task(facts, replace(nli, is_parallel=True)), turned), found)


def mining(*dev: str) -> World:
    """The further task is mining in two languages, with dev sets in some."""

    def change(facts: Facts) -> Facts:
        split = SplitFacts(9, "d")
        places = [("qab", "test"), ("qac", "test"), *((language, "dev") for language in dev)]
        splits = dict.fromkeys(places, split)
        task = replace(wide(facts).tasks["found"], kind="mining", splits=splits)  # type: ignore[arg-type]
        return with_task(wide(facts), task)

    return change


def covering(share: float) -> World:
    coverage = Coverage("target.hybrid.ratio", "the lexicon from qaa", "the training text", share)
    return lambda facts: replace(facts, coverage=(replace(coverage, share=0.25), coverage))


def ranking(facts: Facts) -> Facts:
    return with_task(facts, replace(facts.tasks["nli"], kind="ranking", labels=()))


def same_examples(facts: Facts) -> Facts:
    """The examples of the target task in one language are those of another task, too."""
    pairs, nli = facts.tasks["pairs"], facts.tasks["nli"]
    lent = {**pairs.splits, ("qab", "train"): nli.splits["qab", "train"]}
    return with_task(facts, replace(pairs, splits=lent))


def relative(facts: Facts) -> Facts:
    model = replace(facts.models["toy:2x64"], reads_positions=False)
    return replace(facts, models={**facts.models, "toy:2x64": model})


def causal(facts: Facts) -> Facts:
    model = replace(facts.models["toy:2x64"], is_causal=True)
    return replace(facts, models={**facts.models, "toy:2x64": model})


OTHERS = ("qab", "qac", "qad")
FACTS_OF: dict[str, World] = {
    "plain": lambda facts: facts,
    "wide": wide,
    "ranking": ranking,
    "relative": relative,
    "causal": causal,
    "same examples": same_examples,
    "no lexicon": lambda facts: replace(facts, lexicon={}),
    "no parallel text": lambda facts: replace(facts, parallel={}),
    "other parallel text": lambda facts: replace(facts, parallel={"qaa": "a", "qzz": "z"}),
    "neighbours": lambda facts: replace(facts, neighbours={"qaa": "digest"}),
    "links": lambda facts: replace(facts, has_links=True),
    "no source dev": lambda facts: without(facts, "nli", "dev", "qaa"),
    "source dev alone": lambda facts: without(facts, "nli", "dev", *OTHERS),
    "no pairs": lambda facts: without(facts, "pairs", "train", "qaa"),
    "no tests": lambda facts: without(facts, "nli", "test", "qaa", *OTHERS),
    "no translations": lambda facts: without(facts, "nli", "train", *OTHERS),
    "wide, no translations": lambda facts: without(wide(facts), "nli", "train", *OTHERS),
    "words": covering(0.25),
    "no words": covering(0.0),
    "mining": mining("qab"),
    "mining, both": mining("qab", "qac"),
}
WSD = "intermediate={task: pairs, schedule: wsd, %s}"
SEPARATE = "schedule: {method: wsd, several_epochs: separate}"
MLM = "intermediate={task: pairs, mlm: {share: 0.1%s}}"
BOTH = "intermediate.task=[pairs, tags]"
LISTS = "target.robust={method: augment}"
NEAR = "target.robust={method: augment, neighbours: lexicon}"
SCALED = (
    "target={task: tags, source_language: qaa, hybrid: {ratio: 0.5, mixing: %s, batch_scale: %s}}"
)
UNIFORM = "target.hybrid.mono=uniform"
HALF = "target.hybrid.ratio=0.5"
TAGS = "target.task=tags & target.hybrid.ratio=0.5"
CONTRAST = "align={objective: contrastive, batch_size: 32, group: %s}"
ALSO = "evaluate={also: [%s], %s}"
SHOTS = "few_shot={language: qab, shots: 10}"
RESET = "align={objective: tlm, reset_positions: %s}"
PLACED = "target.fusion={method: aif, layer: 1, placement: %s}"
NARROW = "target.fusion={method: dlfa, layer: 1, reduction: %d}"
SWITCH = "align={objective: code_switch_mlm}"


class Case(NamedTuple):
    """A sweep that has one problem; ``&`` separates overrides."""

    check: str
    overrides: str
    key: str
    says: str
    variant: str = "plain"


CASES = [
    Case("layers_exist", "target.fusion={method: dlfa, layer: 2}", "target.fusion.layer",
         "2 is not below the last layer of toy:2x64, which has 2; at most 1"),
    Case("layers_exist", "align={objective: contrastive, layer: 3}", "align.layer", "at most 2,"),
    Case("layers_exist", ALSO % ("found", "retrieval_layer: 3"), "evaluate.retrieval_layer",
         "at most 2,", "wide"),
    Case("layers_exist", "model={name: toy:2x64, layers: 3}", "model.layers",
         "3 layers cannot be kept of toy:2x64, which has 2; at most 2"),
    Case("layers_exist", f"{PLACED % 'pieces'} & model={{name: toy:2x64, layers: 1}}",
         "target.fusion.layer", "the last layer of toy:2x64 (1 layers), which has 1; at most 0"),
    Case("layers_exist", "model={name: toy:2x64, freeze: {layers: 2}}", "model.freeze.layers",
         "2 leaves none of the 2 layers of toy:2x64 to be trained; at most 1"),
    Case("sentences_are_seen_whole", "model={name: toy:2x64, pooling: first}", "model.pooling",
         "which is causal", "causal"),
    Case("sentences_are_seen_whole",
         f"model={{name: toy:2x64, pooling: mean}} & {PLACED % 'first'}",
         "target.fusion.placement", "placement: pieces or mean", "causal"),
    Case("sentences_are_seen_whole", "model={name: toy:2x64, attention: bidirectional}",
         "model.attention", "its pieces see those after them as it is"),
    Case("fusion_is_not_too_narrow", NARROW % 17, "target.fusion.reduction", "at most 16"),
    *(Case("fused_states_are_read", f"{PLACED % placement} & target.task=tags",
           "target.fusion.placement", "one for every piece") for placement in ("first", "mean")),
    # The target's own data.
    Case("target_can_be_trained", "target.size=1001", "target.size", "1000 training examples"),
    Case("target_can_be_trained", "target={task: pairs, source_language: qab}",
         "target.source_language", "pairs has no training data in 'qab'"),
    Case("target_can_be_trained", "", "target.source_language", "no dev set", "no source dev"),
    Case("target_can_be_trained", "target.task=pairs", "target.task", "has no training data",
         "no pairs"),
    Case("rankings_are_trained", "target.ranking.negatives=3", "target.ranking",
         "nli is not of the kind ranking"),
    Case("rankings_are_trained", "intermediate={task: pairs, ranking: {negatives: 2}}",
         "intermediate.ranking", "pairs is not of the kind ranking"),
    Case("rankings_are_trained", "target.ranking.negatives=8 & target.batch_size=8",
         "target.ranking.negatives", "; at most 7, or a larger batch", "ranking"),
    Case("augmentation_has_neighbours", LISTS, "target.robust.neighbours", "neighbours/qaa.tsv"),
    Case("augmentation_has_neighbours", NEAR, "target.robust.neighbours", "no lexicon from 'qaa'",
         "no lexicon"),
    Case("words_are_covered", "", "target.hybrid.ratio", "no word of the training text",
         "no words"),
    # Text of hybrid batches.
    Case("scaled_batches_are_whole", SCALED % ("in_batch", 2.0), "target.hybrid.batch_scale",
         "batch_scale: 1.0"),
    Case("hybrid_has_text", UNIFORM, "target.hybrid.mono", "not translations of each other"),
    *(Case("hybrid_has_text", f"{UNIFORM}{more}", "target.hybrid.mono", "; mono: source",
           "wide, no translations") for more in ("", f" & {HALF}")),
    Case("hybrid_has_text", f"{UNIFORM} & target.hybrid.text=switched", "target.hybrid.mono",
         "row by row, and text is switched", "wide"),
    Case("hybrid_has_text", TAGS, "target.hybrid.ratio", "neither", "no lexicon"),
    Case("hybrid_has_text", f"{TAGS} & target.hybrid.languages=[qad]", "target.hybrid.languages",
         "available: qab, qac"),
    Case("hybrid_has_text", f"{TAGS} & target.hybrid.languages=[]", "target.hybrid.languages",
         "the list is empty"),
    Case("hybrid_has_text", HALF, "target.hybrid.ratio",
         "nli in several languages are not translations of each other"),
    Case("hybrid_has_text", HALF, "target.hybrid.ratio", "is_parallel: true"),
    Case("hybrid_has_text", f"{HALF} & target.hybrid.text=translated", "target.hybrid.text",
         "; text: switched", "no translations"),
    # Intermediate tasks.
    Case("intermediate_can_be_trained", "intermediate={task: pairs, size: 501}",
         "intermediate.size", "at most 500"),
    Case("intermediate_can_be_trained", "intermediate={task: pairs, source_language: qac}",
         "intermediate.task", "pairs has no training data in 'qac'"),
    Case("intermediate_can_be_trained", f"{BOTH} & intermediate.size=901", "intermediate.size",
         "are 900 training examples in qaa, not 901; at most 900"),
    Case("intermediate_can_be_trained", f"{BOTH} & intermediate.size=601 & "
         "intermediate.sampling={method: proportional, cap: 300}", "intermediate.size",
         "600 training examples in qaa, at most 300 of each counted, not 601; at most 600"),
    Case("intermediate_can_be_trained", f"{BOTH} & intermediate.languages=[qaa, qab] & "
         "intermediate.size=1201", "intermediate.size",
         "1200 training examples in qaa, qab, not 1201; at most 1200"),
    Case("intermediate_can_be_trained", f"{BOTH} & intermediate.languages=[qaa, qax]",
         "intermediate.languages", "pairs and tags have no training data in 'qax'; did you mean"),
    Case("intermediate_can_be_trained", f"{BOTH} & intermediate.languages=[qab]",
         "intermediate.languages", "pairs has no training data in any of the languages; add one of "
         "its languages: qaa"),
    Case("intermediate_can_be_trained", f"{BOTH} & intermediate.source_language=qab",
         "intermediate.task", "pairs has no training data in 'qab'; did you mean qaa"),
    Case("target_labels_stay_unseen", "intermediate={task: nli, source_language: qab}",
         "intermediate.source_language", "labels in 'qab', in which it is scored as zero-shot"),
    Case("target_labels_stay_unseen", "intermediate={task: [nli, tags], languages: [qaa, qab]}",
         "intermediate.languages", "labels in 'qab'"),
    Case("target_labels_stay_unseen", "intermediate={task: pairs, source_language: qab}",
         "intermediate.source_language", "nli would be trained", "same examples"),
    Case("target_labels_stay_unseen", f"{SHOTS} & evaluate.languages=[qac] & "
         "intermediate={task: nli, languages: [qaa, qab]}", "intermediate.languages",
         "labels in 'qab', in which it is scored after few shots"),
    Case("masked_text_is_there", MLM % ", languages: [qaa, xx]", "intermediate.mlm.languages",
         "there is no text for masked LM in 'xx'; available: qaa, qab, qac, qad"),
    Case("masked_text_is_there", MLM % "", "intermediate.mlm", "no text", "no parallel text"),
    Case("ladder_can_be_climbed", WSD % "epochs: 3", "intermediate.epochs",
         "; epochs: 1, or schedule: linear, or schedule: {method: wsd, several_epochs: separate}"),
    Case("ladder_can_be_climbed", f"intermediate={{task: pairs, size: 96, epochs: 3, {SEPARATE}}}",
         "intermediate.schedule.warmup_examples", "size 96"),
    Case("ladder_can_be_climbed", WSD % "warmup: 0.2", "intermediate.warmup", "warmup_examples"),
    Case("ladder_can_be_climbed", WSD % "size: {choice: [100, 500]}",
         "intermediate.schedule.warmup_examples", "size 100"),
    Case("ladder_can_be_climbed", f"{BOTH} & intermediate.schedule={{method: wsd, "
         "warmup_examples: 800}", "intermediate.schedule.warmup_examples",
         "would still rise after 736 examples, where its decay begins; at most 736"),
    # Alignment.
    *(Case("alignment_has_text", f"align={{objective: tlm, languages: {languages}}}",
           "align.languages", "two languages") for languages in ("[qaa]", "[qaa, qaa]")),
    Case("alignment_has_text", "align={objective: tlm, languages: [qaa, qzz]}", "align.languages",
         "no parallel text in 'qzz'"),
    Case("alignment_has_text", "align={objective: tlm}", "align.languages",
         "put parallel/CORPUS/LANGUAGE.tsv into the data", "no parallel text"),
    Case("alignment_has_text", SWITCH, "align.objective", "needs a lexicon", "no lexicon"),
    Case("alignment_has_text", f"{SWITCH} & align.languages=[qaa, qad]", "align.objective",
         "between the languages qaa, qad"),
    Case("positions_can_be_reset", RESET % "true", "align.reset_positions", "distances",
         "relative"),
    *(Case("negatives_are_in_one_pass", f"{CONTRAST % 'batch'} & resources={resources}",
           "align.group", "a pass of 16 pairs")
      for resources in ("{workers: 2}", "{micro_batch: 16}")),
    Case("negatives_are_in_one_pass", CONTRAST % 12, "align.group", "whole groups of 12"),
    # Evaluation.
    Case("languages_are_there", "evaluate.languages=[qab, qzz]", "evaluate.languages", "'qzz'"),
    Case("languages_are_there", "", "target.task", "no test set in any", "no tests"),
    Case("objective_is_measured", "objective.metric=acuracy", "objective.metric",
         "did you mean accuracy?"),
    Case("objective_is_measured", "objective.languages=[qzz]", "objective.languages",
         "no dev set in 'qzz'"),
    Case("objective_is_measured", "objective.languages=target", "objective.languages",
         "no dev set of nli in a target language", "source dev alone"),
    *(Case("objective_is_measured", f"objective.languages={languages} & evaluate.{settings}",
           "objective.languages", "evaluate.dev: all")
      for languages, settings in (("[qab]", "dev=source"), ("target", "dev=source"),
                                  ("all", "dev=source"), ("[qab]", "languages=[qac]"),
                                  ("target", "languages=[]"))),
    *(Case("measures_are_known", f"objective=[source, {name}]", "objective", problem)
      for name, problem in (("gpu_hours", "have no GPU"), ("low_resource", "in a low-resource"))),
    Case("measures_are_known", "constraints=[zu >= 0.1]", "constraints", "dev set in 'zu'"),
    Case("measures_are_known", "objective=[source, worst_language]", "objective",
         "no dev set of nli in a target language", "source dev alone"),
    *(Case("pairs_are_parallel", f"evaluate.pairs={pairs}", "evaluate.pairs", "rows of nli are not")
      for pairs in ("all", "[[qaa, qab], [qab, qaa]]")),
    Case("pairs_are_parallel", "target.task=tags & evaluate.pairs=all", "evaluate.pairs",
         "not sentence pairs", "wide"),
    Case("pairs_are_parallel", "evaluate.pairs=[[qaa, qzz]]", "evaluate.pairs", "'qzz'", "wide"),
    Case("pairs_are_parallel", "evaluate={languages: [qab], pairs: [[qab, qac]]}",
         "evaluate.pairs", "add the language to evaluate.languages", "wide"),
    *(Case("further_tasks_fit", f"evaluate.also=[{names}]", "evaluate.also", says, "wide")
      for names, says in (("tags", "kind tag, the head of nli is for kind pair"),
                          ("turned", "labels b, a, the head of nli has learned a, b"),
                          ("nli", "is the target task"), ("pairs, pairs", "named twice"))),
    Case("further_tasks_fit", ALSO % ("found", "languages: [qac]"), "evaluate.also",
         "no test set in a language of evaluate.languages; name one of its languages: qab", "wide"),
    Case("further_tasks_fit", "evaluate.also=[found]", "evaluate.also",
         "no dev set in qac to choose its threshold on", "mining"),
    Case("sentences_are_retrieved", ALSO % ("pairs", "retrieval_layer: 1"),
         "evaluate.retrieval_layer", "neither a retrieval task", "wide"),
    Case("sentences_are_retrieved", ALSO % ("pairs", "retrieval_encoder: before"),
         "evaluate.retrieval_encoder", "neither a retrieval task", "wide"),
    Case("diagnostics_have_text", "evaluate.diagnostics=[retrieval, cka]", "evaluate.diagnostics",
         "no parallel text in 'qaa'", "no parallel text"),
    Case("diagnostics_have_text", "evaluate.diagnostics=[retrieval, cka]", "evaluate.diagnostics",
         "no scored language has parallel text", "other parallel text"),
    Case("diagnostics_have_text", "evaluate.diagnostics=[cka, cka]", "evaluate.diagnostics",
         "named twice"),
    Case("diagnostics_have_text", "evaluate.diagnostics=[alignment]", "evaluate.diagnostics",
         "known to be aligned"),
    Case("diagnostics_have_text", "evaluate.diagnostic_sentences=100",
         "evaluate.diagnostic_sentences", "no diagnostics"),
    # Few shots.
    Case("shots_are_there", f"{SHOTS} & few_shot.language=qaa", "few_shot.language",
         "is the source language"),
    Case("shots_are_there", f"{SHOTS} & few_shot.shots=51", "few_shot.shots",
         "has 50 examples, not 51"),
    Case("shots_are_there", f"{SHOTS} & target.task=pairs & few_shot.split=train",
         "few_shot.split", "no train set with labels in any target language"),
    Case("shots_are_there", "target.task=tags & few_shot={language: qac, shots: 5, split: train}",
         "few_shot.language", "no train set with labels in 'qac'"),
    *(Case("shots_are_not_selected_on", f"{SHOTS} & objective.languages={languages}",
           "objective.languages", "that the objective would read")
      for languages in ("all", "[qab]")),
    Case("shots_are_not_selected_on", f"{SHOTS} & evaluate.dev=all", "evaluate.dev",
         "can train on dev sets"),
    *(Case("zero_shot_alone_is_examined", f"{SHOTS} & {override}", override.partition("=")[0],
           "only the task itself is scored")
      for override in ("evaluate.also=[pairs]", "evaluate.diagnostics=[cka]", "target.average=3")),
    Case("averaged_weights_are_the_encoders", "target.peft={method: lora} & target.average=3",
         "target.average", "no weights of the encoder are trained"),
    # Every training.
    *(Case("lengths_fit", override, key, "reads at most 256 pieces") for override, key in (
        ("target.max_length=257", "target.max_length"),
        ("intermediate={task: pairs, max_length: 300}", "intermediate.max_length"),
        (f"{SHOTS} & few_shot.max_length=500", "few_shot.max_length"),
    )),
    *(Case("batches_split_evenly", f"target.batch_size={size} & resources={resources}",
           "target.batch_size", "cannot be split evenly")
      for size, resources in ((32, "{workers: 3}"), (32, "{workers: 2, micro_batch: 5}"),
                              (2, "{workers: 4}"))),
    Case("batches_split_evenly", f"{SHOTS} & few_shot.batch_size=9 & resources={{workers: 2}}",
         "few_shot.batch_size", "evenly"),
    Case("rows_may_be_moved", "target.batching=pieces", "target.batching",
         "nli compares the rows of a batch, so they stay as they are drawn; batching: examples",
         "ranking"),
    Case("rows_may_be_moved", f"{SHOTS} & few_shot.batching=pieces", "few_shot.batching",
         "nli compares", "ranking"),
    Case("rows_may_be_moved", "intermediate={task: [pairs, nli], batching: pieces}",
         "intermediate.batching", "nli compares", "ranking"),
    Case("rows_may_be_moved", f"{CONTRAST % 'batch'} & align.batching=pieces", "align.batching",
         "contrastive compares"),
    Case("rows_may_be_moved", WSD % "batching: pieces", "intermediate.batching",
         "under wsd a smaller size is the beginning of a larger one"),
]  # fmt: skip


def split(overrides: str) -> list[str]:
    return [override for override in overrides.split(" & ") if override]


@pytest.fixture
def problems(sweep_from: ReadSweep, facts: Facts) -> Problems:
    """Problems by key of the sound sweep with overrides."""

    def find(*overrides: str, facts: Facts = facts) -> dict[str, SpecError]:
        errors = check(sweep_from(SOUND, *split(" & ".join(overrides))), facts)
        assert len({error.key for error in errors}) == len(errors), errors
        return {error.key: error for error in errors}

    return find


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}: {case.overrides}")
def test_a_problem_is_found_by_its_check(
    problems: Problems, sweep_from: ReadSweep, facts: Facts, case: Case
) -> None:
    variant = FACTS_OF[case.variant](facts)
    by_key = problems(case.overrides, facts=variant)
    assert set(by_key) == {case.key}
    assert case.says in str(by_key[case.key])
    sweep = sweep_from(SOUND, *split(case.overrides))
    (function,) = (function for function in CHECKS if function.__name__ == case.check)
    trials = [sweep.trial(tree) for tree, _ in probes(sweep.space, variant.model_bounds)]
    assert any(case.key == key for trial in trials for key, *_ in function(trial, variant, sweep))


def test_every_check_has_a_case() -> None:
    assert {case.check for case in CASES} == {function.__name__ for function in CHECKS}
    assert {case.variant for case in CASES} <= set(FACTS_OF)


@pytest.mark.parametrize(
    ("overrides", "variant"),
    [
        ("", "plain"),
        ("", "words"),
        ("target.fusion={method: dlfa, layer: {int: [0, num_layers - 1]}} & "
         "model={choice: [toy:2x64, toy:4x64]} & target.max_length=100", "plain"),
        ("align={objective: contrastive, layer: {int: [0, num_layers]}}", "plain"),
        (ALSO % ("found", "retrieval_layer: {int: [0, num_layers]}"), "wide"),
        (NARROW % 16, "plain"),
        *((PLACED % placement, "plain") for placement in ("pieces", "first", "mean")),
        (f"{PLACED % 'pieces'} & target.task=tags", "plain"),
        ("target.size=1000 & intermediate={task: pairs, size: 500}", "plain"),
        ("target.ranking={negatives: 7, temperature: 0.01}", "ranking"),
        (LISTS, "neighbours"),
        (NEAR, "plain"),
        (SCALED % ("per_batch", 0.5), "plain"),
        (SCALED % ("in_batch", 1.0), "plain"),
        (UNIFORM, "wide"),
        (f"{UNIFORM} & target.hybrid.languages=[qab]", "wide"),
        ("target.task=tags & target.hybrid={ratio: 0.5, languages: [qab]}", "plain"),
        ("target.task=tags", "no lexicon"),
        (HALF, "wide"),
        (HALF, "no translations"),
        (f"{HALF} & target.hybrid.text=switched", "plain"),
        (f"{HALF} & target.hybrid.text=translated", "wide"),
        (BOTH, "plain"),
        (f"{BOTH} & intermediate.size=900", "plain"),
        (f"{BOTH} & intermediate.sampling=proportional", "plain"),
        (f"{BOTH} & intermediate.sampling={{method: temperature, temperature: 2, cap: 100}}",
         "plain"),
        ("intermediate.languages=all & target.task=pairs & intermediate.task=[tags, nli]", "plain"),
        (f"{BOTH} & intermediate.languages=[qaa, qab]", "plain"),
        (f"{BOTH} & intermediate.mlm={{share: 0.2, languages: source}}", "plain"),
        (f"{BOTH} & intermediate.mlm={{choice: [null, {{share: 0.2}}]}}", "plain"),
        (f"{BOTH} & intermediate.schedule={{method: wsd, warmup_examples: 64}}", "plain"),
        # One of the options is a single task, for which nothing is drawn.
        ("intermediate.task={choice: [pairs, [pairs, tags]]} & "
         "intermediate.sampling={method: temperature, temperature: 2}", "plain"),
        ("intermediate={task: [nli, tags], languages: [qaa, qab]} & evaluate.languages=[qac]",
         "plain"),
        ("intermediate={task: tags, languages: [qaa, qab]}", "plain"),
        (MLM % "", "plain"),
        (f"intermediate={{task: pairs, epochs: 3, {SEPARATE}}}", "plain"),
        (SWITCH, "plain"),
        (f"{SWITCH} & align.languages=[qaa, qac]", "plain"),
        ("align={objective: tlm, languages: [qab, qac], max_length: 256}", "no lexicon"),
        (RESET % "true", "plain"),
        (RESET % "false", "relative"),
        (CONTRAST % "batch", "plain"),
        (f"{CONTRAST % 8} & resources={{workers: 2, micro_batch: 8}}", "plain"),
        ("resources={workers: 4, micro_batch: 2}", "plain"),
        (f"target.batching=pieces & {SHOTS} & few_shot.batching=pieces", "plain"),
        (f"{SWITCH} & align.batching=pieces & intermediate={{task: pairs, epochs: 3, "
         f"batching: pieces, {SEPARATE}}}", "plain"),
        ("resources={workers: 2, micro_batch: 64}", "plain"),
        ("objective={languages: target}", "plain"),
        ("objective={languages: [qab]} & evaluate.languages=[qab]", "plain"),
        ("evaluate.languages=[]", "plain"),
        *((f"evaluate.pairs={pairs}", "wide") for pairs in ("all", "[[qaa, qab], [qab, qaa]]")),
        ("evaluate.also=[pairs, found]", "wide"),
        ("evaluate.also=[found]", "mining, both"),
        (ALSO % ("found", "languages: [qab]"), "mining"),
        (ALSO % ("found", "retrieval_encoder: before"), "wide"),
        ("evaluate.diagnostics=[retrieval, cka]", "plain"),
        ("evaluate.diagnostics=[alignment]", "links"),
        (f"{SHOTS} & few_shot.shots=50", "plain"),
        (f"{SHOTS} & few_shot.sample={{choice: [0, 1, per_trial]}}", "plain"),
        ("few_shot={language: qab, shots: 1000, split: train}", "plain"),
        ("few_shot={choice: [null, {language: {choice: [qab, qac]}, shots: 5}]}", "plain"),
        # The zero-shot trials are scored in other languages.
        (f"{SHOTS} & evaluate.languages=[qac]", "plain"),
        (f"{SHOTS} & evaluate.languages=[qac] & intermediate={{task: nli, languages: [qaa, qad]}}",
         "plain"),
    ],
)  # fmt: skip
def test_a_sound_sweep_has_no_problem(
    problems: Problems, facts: Facts, overrides: str, variant: str
) -> None:
    assert problems(overrides, facts=FACTS_OF[variant](facts)) == {}


def test_a_retrieval_task_cannot_be_trained(problems: Problems, facts: Facts) -> None:
    error = problems("target.task=found", facts=wide(facts))["target.task"]
    assert "has no training data" in error.problem


def test_coverage_is_a_sentence(facts: Facts) -> None:
    (known, _) = covering(0.25)(facts).coverage
    assert str(known) == "the lexicon from qaa has 25.0 % of the words of the training text"


def test_sampling_of_one_dataset_is_refused(problems: Problems) -> None:
    errors = problems("intermediate={task: pairs, sampling: {method: proportional}}")
    assert set(errors) == {"intermediate.sampling"}
    assert "nothing to sample; intermediate.task: [ONE, OTHER]" in str(*errors.values())


def test_one_file_that_two_tasks_read_is_known_as_the_same_examples(
    problems: Problems, tmp_path: Path
) -> None:
    header = "id\tsentence1\tsentence2\tlabel\tscore"
    (tmp_path / "pairs/stsb").mkdir(parents=True)
    for language in ("en", "de"):
        for split in ("train", "dev", "test"):
            file = tmp_path / f"pairs/stsb/{language}.{split}.tsv"
            file.write_text(f"{header}\n1\t{language}\t{split}\t0\t1.5\n", encoding="utf-8")
    source = FilesSource(tmp_path)
    tasks = {
        task.name: TaskFacts(
            task.name, task.kind, 1, task.labels, task.metrics, source.splits(task)
        )
        for task in (task_named("stsb"), task_named("stsb-score"))
    }
    overrides = (
        "target={task: stsb-score, source_language: en}", "objective.metric=pearson",
        "intermediate={task: stsb, languages: [%s]}",
    )  # fmt: skip
    models = {"toy:2x64": ModelFacts("toy:2x64", 2, 64, 256, "weights")}
    (error,) = problems(*(override.replace("%s", "en, de") for override in overrides),
                        facts=Facts(models, tasks)).values()  # fmt: skip
    assert error.key == "intermediate.languages"
    assert "stsb-score would be trained with labels in 'de'" in error.problem
    assert not problems(*(override.replace("%s", "en") for override in overrides),
                        facts=Facts(models, tasks))  # fmt: skip


def test_a_fault_of_one_model_and_one_block_alone_is_found(problems: Problems) -> None:
    by_key = problems(
        "model={choice: [real, toy:4x64, toy:2x64]}",
        "target.fusion={choice: [{method: none}, {method: mix}, "
        "{method: dlfa, layer: {int: [0, 2]}}]}",
        "target.max_length=64",
    )
    assert set(by_key) == {"target.fusion.layer"}
    assert "toy:2x64" in by_key["target.fusion.layer"].problem


SEVERAL = "target.weight_decay={choice: [0.0, 0.1]}"


def test_early_stopping_that_could_stop_nothing_is_refused(problems: Problems) -> None:
    # 1000 examples three times in batches of 32 are 3008, evaluated at 25, 50, 75 and 100 %.
    stop = "early_stop={method: asha, grace_examples: %d}"
    assert problems(SEVERAL, stop % 2272) == {}
    by_key = problems(SEVERAL, stop % 2273)
    assert set(by_key) == {"early_stop"}
    assert "at most 2272" in by_key["early_stop"].remedy
    # The shortest training counts, wherever it is in the space.
    shorter = ("target.size={choice: [all, 320]}", "target.epochs={int: [1, 3]}")
    assert "at most 256" in problems(stop % 257, *shorter)["early_stop"].remedy
    assert problems(stop % 240, *shorter) == {}
    assert problems("early_stop={method: asha, grace: 0.75}", *shorter) == {}
    by_key = problems(SEVERAL, "early_stop={method: asha, grace: 0.8}")
    assert "at most 0.755" in by_key["early_stop"].remedy
    once = problems(SEVERAL, "target.evaluations=1", stop % 1)["early_stop"]
    assert "2 or more" in once.remedy
    short = problems(SEVERAL, "target.size=32", "target.epochs=1", stop % 1)["early_stop"]
    assert "no evaluation follows before" in short.problem
    alone = problems("early_stop={method: asha, grace: 0.2}", "search.seeds=3")["early_stop"]
    assert "this sweep has one" in alone.problem


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        (("early_stop={method: asha, grace: 0.2}", SEVERAL, "search.trials=1"),
         "early_stop", "as long as search.trials is 1"),
        ((SEVERAL, "search={trials: 2, seeds: {race: {most: 6}}}"),
         "search.seeds.race.keep", "of 2 configurations it keeps all, so each gets 6 seeds"),
        # 64 examples are two steps of 32: the only evaluation before the end is at one half.
        (("early_stop={method: asha, grace: 0.6}", "target.epochs=1",
          "target.size={choice: [64, all]}"), "early_stop", "before the end at 50 %"),
        (("target.size=64", "target.epochs=1", "target.warmup=0.4"),
         "target.warmup", "of 2 steps a share of 0.4 is less than one"),
        (("align={objective: tlm, steps: 4, warmup: 0.2}",),
         "align.warmup", "of 4 steps a share of 0.2 is less than one"),
        (("target.size=64", "target.epochs=1", "target.evaluations=4"),
         "target.evaluations", "a training of 2 steps is evaluated 2 times, not 4"),
        (("target.average=6",), "target.average", "weights of 4 evaluations are averaged"),
        ((SEVERAL, "search.first=[{target.weight_decay: 0.1}, {target.weight_decay: 0.0}]",
          "search.trials=1"), "search.first", "it has 2 points and search.trials is 1"),
        (("budget={gpu_hours: 8}",), "budget.gpu_hours", "no trial has a GPU"),
    ],
)  # fmt: skip
def test_what_has_no_effect_in_some_configurations_is_warned_of(
    sweep_from: ReadSweep, facts: Facts, overrides: tuple[str, ...], key: str, problem: str
) -> None:
    sweep = sweep_from(SOUND, *overrides)
    assert check(sweep, facts) == []
    (warning,) = warnings_of(sweep, facts)
    assert warning.key == key
    assert problem in warning.problem


def test_what_has_an_effect_is_not_warned_of(sweep_from: ReadSweep, facts: Facts) -> None:
    overrides = (
        SEVERAL, "early_stop={method: asha, grace: 0.2}", "target.warmup=0.1",
        "target.evaluations=6", "target.average=6", "search.first=[{target.weight_decay: 0.1}]",
        "budget={gpu_hours: 8}", "resources={gpus_per_worker: 1}",
    )  # fmt: skip
    assert warnings_of(sweep_from(SOUND, *overrides), facts) == []


def test_an_average_of_one_evaluation_is_refused(problems: Problems) -> None:
    by_key = problems("target.evaluations=1", "target.average=3")
    assert set(by_key) == {"target.average"}


def test_early_stopping_compares_at_the_same_evaluations(problems: Problems) -> None:
    stop = "early_stop={method: asha, grace: 0.25}"
    by_key = problems(stop, "target.evaluations={choice: [4, 5]}")
    assert set(by_key) == {"target.evaluations"}
    assert problems("target.evaluations={choice: [4, 5]}") == {}


@pytest.mark.parametrize(
    "stop", ["{method: asha}", "{method: asha, grace: 0.2, grace_examples: 100}"]
)
def test_early_stopping_has_one_grace(sweep_from: ReadSweep, stop: str) -> None:
    with pytest.raises(SpecError, match=r"early_stop: .*needs either grace or grace_examples"):
        sweep_from(SOUND, f"early_stop={stop}")


def test_progress_has_one_interval(sweep_from: ReadSweep) -> None:
    with pytest.raises(SpecError, match=r"progress: .*needs either share or every"):
        sweep_from(SOUND, "progress={share: 0.02, every: 60}")


def test_all_problems_of_all_probes_are_reported_once(sweep_from: ReadSweep, facts: Facts) -> None:
    sweep = sweep_from(
        SOUND,
        "target.size={choice: [10, 2000, 3000]}",
        "target.max_length={choice: [64, 1024]}",
        "objective.metric=bleu",
    )
    seen = [(error.key, error.problem) for error in check(sweep, facts)]
    assert len(seen) == len(set(seen)) == 4
    assert sorted(key for key, _ in seen) == [
        "objective.metric", "target.max_length", "target.size", "target.size",
    ]  # fmt: skip


def test_a_language_that_is_lacking_is_reported_with_the_nearest(
    sweep_from: ReadSweep, facts: Facts
) -> None:
    asked = ("target.source_language=qaaa", "align={objective: tlm, languages: [qabb, qac]}")
    remedies = {(error.key, error.remedy) for error in check(sweep_from(SOUND, *asked), facts)}
    assert ("target.source_language", "did you mean qaa?") in remedies
    assert ("align.languages", "did you mean qab?") in remedies
