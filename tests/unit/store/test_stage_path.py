"""From a trial to its stages: which keys a setting changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from xlt_ray.config import task_types
from xlt_ray.config.facts import Facts, SplitFacts, TaskFacts
from xlt_ray.config.trial import Evaluate, TrialSpec
from xlt_ray.data.task import load_tasks
from xlt_ray.report.xtreme import TASKS as XTREME
from xlt_ray.store.stage import VERSIONS, Stage
from xlt_ray.store.stage_path import StagePath, stages_to_run

from .conftest import FULL, with_data, with_values

PathWith = Callable[..., StagePath]

KINDS = ("model", "align", "intermediate", "target", "evaluate")
TRAINING = {
    "learning_rate": 1e-4,
    "batch_size": 8,
    "batching": "pieces",
    "max_length": 64,
    "weight_decay": 0.01,
    "warmup": 0.5,
    "clip": 0.0,
}
FIRST_CHANGED: dict[str, tuple[Any, str]] = {
    "model.name": ("toy:4x64", "model"),
    "model.layers": ({"name": "toy:2x64", "layers": 1}, "model"),
    "model.pooling": ({"name": "toy:2x64", "pooling": "mean"}, "model"),
    "model.attention": ({"name": "toy:2x64", "attention": "bidirectional"}, "model"),
    "model.freeze.embeddings": ({"name": "toy:2x64", "freeze": {"embeddings": True}}, "align"),
    "model.freeze.layers": ({"name": "toy:2x64", "freeze": {"layers": 1}}, "align"),
    "align.objective": ({"objective": "tlm"}, "align"),
    "align.switch": (0.1, "align"),
    "align.mask": (0.3, "align"),
    "align.steps": (10, "align"),
    "align.held_out": (10, "align"),
    "align.languages": (["qaa", "qab"], "align"),
    "intermediate.task": ("nli", "intermediate"),
    "intermediate.source_language": ("qab", "intermediate"),
    "intermediate.languages": (["qab"], "intermediate"),
    "intermediate.mlm": ({"share": 0.25}, "intermediate"),
    "intermediate.size": (100, "intermediate"),
    "intermediate.epochs": (2, "intermediate"),
    "target.task": ("pairs", "target"),
    "target.source_language": ("qab", "target"),
    "target.size": (100, "target"),
    "target.epochs": (2, "target"),
    "target.fusion.method": ({"method": "none"}, "target"),
    "target.peft.method": ({"method": "lora"}, "target"),
    "intermediate.peft.method": ({"method": "ia3"}, "intermediate"),
    "target.fusion.layer": (0, "target"),
    "target.fusion.reduction": (2, "target"),
    "target.fusion.placement": ("first", "target"),
    "target.robust.method": (
        {"method": "adversarial", "epsilon": 0.1, "step_size": 0.1},
        "target",
    ),
    "target.robust.matched_steps": (2, "target"),
    "target.hybrid.ratio": (0.5, "target"),
    "target.hybrid.languages": (["qab"], "target"),
    "target.hybrid.text": ("switched", "target"),
    "target.hybrid.pairs": ("by_size", "target"),
    "target.hybrid.mixing": ("in_batch", "target"),
    "target.hybrid.batch_scale": (2.0, "target"),
    "target.hybrid.mono": ("uniform", "target"),
    "target.evaluations": (9, "target"),
    "target.select": ("last", "target"),
    "target.average": (2, "target"),
    "target.head_seed": (3, "target"),
    "evaluate.languages": (["qab"], "evaluate"),
    "evaluate.dev": ("all", "evaluate"),
    "evaluate.examples": (10, "evaluate"),
    "evaluate.pairs": ([["qaa", "qab"]], "evaluate"),
    "evaluate.also": (["pairs"], "evaluate"),
    "evaluate.diagnostics": (["cka"], "evaluate"),
    "precision": ("bf16", "align"),
    **{
        f"{section}.{name}": (value, section)
        for section in ("align", "intermediate", "target")
        for name, value in TRAINING.items()
    },
}
"""Setting -> another value, and the first stage of the path whose key it changes."""
WHOLE = {
    "model.layers": "model",
    "model.pooling": "model",
    "model.attention": "model",
    "model.freeze.embeddings": "model",
    "model.freeze.layers": "model",
    "align.objective": "align",
    "target.fusion.method": "target.fusion",
    "target.peft.method": "target.peft",
    "intermediate.peft.method": "intermediate.peft",
    "target.robust.method": "target.robust",
    "intermediate.sampling.method": "intermediate.sampling",
    "intermediate.sampling.cap": "intermediate.sampling",
    "data.source": "data",
}
"""Settings that are changed with the block that they name."""
SHAPING = {"intermediate.schedule.method", "few_shot", "model.revision"}
"""Change the shape of the path, or are another model: see test_ladder, test_few_shot, test_plan."""
NEUTRAL: dict[str, Any] = {
    "target.ranking.temperature": 0.01,
    "target.ranking.negatives": 3,
    "intermediate.ranking.temperature": 0.01,
    "intermediate.ranking.negatives": 3,
    "evaluate.retrieval_layer": 1,
    "evaluate.retrieval_encoder": "before",
    "evaluate.diagnostic_sentences": 10,
    "model.trust_remote_code": True,
    "align.seed": "per_trial",
    "intermediate.seed": "per_trial",
    "intermediate.sampling.method": {"method": "temperature", "temperature": 2.0},
    "intermediate.sampling.cap": {"method": "proportional", "cap": 10},
    "data.source": {"source": "files", "root": "elsewhere"},
    "data.seed": 5,
}
"""Change no key by themselves: data by its digests, seeds by their value, weights by theirs, the
settings of rankings, the layer of retrieval and the size of a sample where there is any, sampling
where there are several tasks to draw from (test_mixture)."""


def leaves(model: BaseModel, prefix: str = "") -> set[str]:
    """Dotted paths of all values of a trial."""
    paths: set[str] = set()
    for name in type(model).model_fields:
        value = getattr(model, name)
        path = f"{prefix}{name}"
        paths |= leaves(value, f"{path}.") if isinstance(value, BaseModel) else {path}
    return paths


def changed(first: StagePath, second: StagePath) -> list[str]:
    """Kinds of the stages whose keys differ."""
    return [a.kind for a, b in zip(first, second, strict=True) if a.key != b.key]


@pytest.fixture
def wide_facts(facts: Facts) -> Facts:
    """With training data of the intermediate task in a second language."""
    return with_data(facts, "pairs", "qab", "train")


def test_every_setting_of_a_trial_is_accounted_for() -> None:
    assert leaves(TrialSpec.model_validate(FULL)) == set(FIRST_CHANGED) | set(NEUTRAL) | SHAPING


@pytest.mark.parametrize("setting", FIRST_CHANGED)
def test_a_setting_changes_its_stage_and_all_below_and_none_above(
    path_with: PathWith, wide_facts: Facts, setting: str
) -> None:
    value, first = FIRST_CHANGED[setting]
    if setting == "model.name":
        setting = "model"
    other = path_with({WHOLE.get(setting, setting): value}, facts=wide_facts)
    expected = list(KINDS[KINDS.index(first) :])
    if setting == "target.source_language":
        # The intermediate stage follows the target's source language where it names none.
        expected.insert(0, "intermediate")
    assert changed(path_with(facts=wide_facts), other) == expected


@pytest.mark.parametrize("setting", NEUTRAL)
def test_a_neutral_setting_changes_no_key(path_with: PathWith, setting: str) -> None:
    values = {"model": {"name": "toy:2x64"}}
    other = path_with({**values, WHOLE.get(setting, setting): NEUTRAL[setting]})
    assert changed(path_with(values), other) == []


@pytest.mark.parametrize(
    "robust",
    [{"method": "none", "matched_steps": 3}, {"method": "augment", "copies": 3}],
    ids=lambda settings: settings["method"],
)
def test_matched_steps_and_copies_train_as_many_examples(
    path_with: PathWith, facts: Facts, robust: dict[str, Any]
) -> None:
    facts = replace(facts, neighbours={"qaa": "lists of qaa"})
    plain, longer = (
        path_with({"target.robust": settings}, facts=facts)[-2]
        for settings in ({"method": "none"}, robust)
    )
    assert longer.num_examples == 3 * plain.num_examples


def test_positions_that_are_not_reset_are_no_part_of_a_key(path_with: PathWith) -> None:
    def key(**settings: Any) -> str:
        return path_with({"align": {"objective": "tlm", **settings}})[1].key

    assert "reset_positions" not in path_with({"align": {"objective": "tlm"}})[1].settings
    assert key(reset_positions=False) == key()
    assert key(reset_positions=True) != key()


@pytest.mark.parametrize(
    ("objective", "setting", "value"),
    [
        ("mlm", "mask", 0.3),
        ("contrastive", "temperature", 0.1),
        ("contrastive", "layer", 1),
        ("contrastive", "group", 4),
        ("weam", "weight", 0.5),
        ("weam", "aligner", "ibm1"),
        ("weam", "symmetrise", "intersection"),
    ],
)
def test_settings_of_an_objective_change_its_stage(
    path_with: PathWith, objective: str, setting: str, value: object
) -> None:
    plain, changed_path = (
        path_with({"align": {"objective": objective, **settings}})
        for settings in ({}, {setting: value})
    )
    assert changed(plain, changed_path) == list(KINDS[1:])


def test_neighbours_are_data_of_an_augmented_stage(path_with: PathWith, facts: Facts) -> None:
    augment = {"target.robust": {"method": "augment"}}
    first, second = (
        path_with(augment, facts=replace(facts, neighbours={"qaa": digest}))[-2].key
        for digest in ("one", "other")
    )
    assert first != second
    lexicon = {"target.robust": {"method": "augment", "neighbours": "lexicon"}}
    words = path_with(lexicon)[-2].data["neighbours"]
    assert words == facts.lexicon["qaa"].digest


def test_a_path_is_a_chain_from_the_model_to_the_scores(path_with: PathWith) -> None:
    path = path_with()
    assert tuple(stage.kind for stage in path) == KINDS
    assert path[0].parent is None
    assert all(stage.parent is above for above, stage in itertools.pairwise(path))
    assert stages_to_run(path) == path[1:]
    assert [stage.kind for stage in path if stage.is_training] == list(KINDS[1:4])


def test_stages_that_a_trial_does_not_have_are_left_out(path_with: PathWith) -> None:
    path = path_with({"align": None, "intermediate": None})
    assert [stage.kind for stage in path] == ["model", "target", "evaluate"]


def test_neutral_settings_of_hybrid_batches_are_no_part_of_a_key(path_with: PathWith) -> None:
    neutral = {"text": "auto", "pairs": "uniform", "mixing": "per_batch", "batch_scale": 1.0}
    values = {f"target.hybrid.{name}": value for name, value in neutral.items()}
    target = path_with(values)[-2]
    assert target.settings["hybrid"].keys() == {"ratio", "languages", "text"}
    assert target.key == path_with()[-2].key


def test_what_hybrid_batches_never_draw_is_no_part_of_a_key(path_with: PathWith) -> None:
    def key(**hybrid: Any) -> str:
        return path_with({"target.hybrid": hybrid})[-2].key

    assert key(ratio=0, pairs="by_size", mixing="in_batch", languages=["qab"]) == key(ratio=0)
    assert key(ratio=0, mono="uniform") != key(ratio=0)
    assert key(ratio=0, mono="uniform") == key(ratio=0, mono="uniform", pairs="by_size")
    assert key(ratio=0, mono="uniform") != key(ratio=0, mono="uniform", languages=["qab"])
    assert key(ratio=1, mono="uniform") == key(ratio=1), "no batch is in one language"
    assert key(ratio=0.5, text="translated") == key(ratio=0.5, text="auto")


def test_how_rankings_are_trained_is_part_of_their_keys_alone(
    path_with: PathWith, facts: Facts
) -> None:
    pairs = facts.tasks["pairs"]
    ranked = replace(facts, tasks={**facts.tasks, "pairs": replace(pairs, kind="ranking")})

    def differs(facts: Facts, section: str, **ranking: Any) -> list[str]:
        tasks = {"target.task": "pairs"}
        other = {f"{section}.ranking": ranking}
        return changed(path_with(tasks, facts=facts), path_with({**tasks, **other}, facts=facts))

    for setting in ({"temperature": 0.01}, {"negatives": 3}):
        assert differs(facts, "target", **setting) == []
        assert differs(ranked, "target", **setting) == ["target", "evaluate"]
        assert differs(ranked, "intermediate", **setting)[0] == "intermediate"


@pytest.mark.parametrize(
    ("setting", "spelled_out"),
    [
        ("intermediate.size", 500),
        ("target.size", 1000),
        ("align.languages", ["qad", "qac", "qab", "qaa"]),
        ("target.hybrid.languages", ["qad", "qab", "qac"]),
        ("evaluate.languages", ["qab", "qac", "qad"]),
        ("intermediate.source_language", "qaa"),
    ],
)
def test_a_default_equals_what_it_stands_for(
    path_with: PathWith, setting: str, spelled_out: Any
) -> None:
    assert changed(path_with(), path_with({setting: spelled_out})) == []


def test_all_words_of_the_lexicon_equal_their_languages(path_with: PathWith) -> None:
    tags = {"target.task": "tags", "intermediate": None}
    spelled = {**tags, "target.hybrid.languages": ["qab", "qac"]}
    assert changed(path_with(tags), path_with(spelled)) == []


@pytest.mark.parametrize("section", ["align", "intermediate"])
def test_a_shared_stage_is_shared_by_repeats(path_with: PathWith, section: str) -> None:
    shared = changed(path_with(seed=0), path_with(seed=1))
    assert shared == ["target", "evaluate"]
    own = {f"{section}.seed": "per_trial"}
    assert changed(path_with(own, seed=0), path_with(own, seed=1))[0] == section


def test_another_shared_seed_is_another_toy_model_but_no_other_real_one(
    path_with: PathWith,
) -> None:
    assert changed(path_with(), path_with(shared_seed=1)) == list(KINDS)
    real = {"model": "real"}
    assert changed(path_with(real), path_with(real, shared_seed=1))[0] == "align"


def test_an_evaluation_has_no_seed_of_its_own(path_with: PathWith) -> None:
    assert path_with(seed=4, shared_seed=2)[-1].seed == 0


def test_dev_and_test_languages_follow_the_settings(path_with: PathWith) -> None:
    def asked(values: dict[str, Any]) -> Any:
        return path_with(values)[-1].settings["languages"]

    everything = ("qaa", "qab", "qac", "qad")
    assert asked({}) == {"dev": ("qaa",), "test": everything}
    assert asked({"evaluate.dev": "all"}) == {"dev": everything, "test": everything}
    assert asked({"evaluate.languages": ["qac"]}) == {"dev": ("qaa",), "test": ("qaa", "qac")}
    few = {"evaluate.languages": ["qac"], "evaluate.dev": "all"}
    assert asked(few) == {"dev": ("qaa", "qac"), "test": ("qaa", "qac")}


def test_new_data_is_another_stage_exactly_where_it_is_used(
    path_with: PathWith, facts: Facts
) -> None:
    def first(*split: str) -> str | None:
        other = path_with(facts=with_data(facts, *split))
        return next(iter(changed(path_with(), other)), None)

    assert first("nli", "qaa", "train") == "target"
    assert first("nli", "qad", "train") == "target"
    assert first("nli", "qad", "test") == "evaluate"
    assert first("nli", "qad", "dev") is None
    # What a training is scored on while it runs: its curve is that of one dev set.
    assert first("nli", "qaa", "dev") == "target"
    assert first("pairs", "qaa", "dev") == "intermediate"
    assert first("pairs", "qaa", "train") == "intermediate"
    assert first("tags", "qaa", "train") is None
    other_text = replace(facts, parallel={**facts.parallel, "qab": "another"})
    assert changed(path_with(), path_with(facts=other_text))[0] == "align"


def test_a_new_version_of_a_task_is_trained_and_scored_anew(
    path_with: PathWith, facts: Facts
) -> None:
    newer = replace(facts.tasks["nli"], version=2)
    other = replace(facts, tasks={**facts.tasks, "nli": newer})
    assert changed(path_with(), path_with(facts=other)) == ["target", "evaluate"]


def test_a_label_is_for_people_and_a_version_is_for_keys(path_with: PathWith) -> None:
    stage = path_with()[-2]
    assert replace(stage, label="another", num_examples=1).key == stage.key
    assert replace(stage, version=VERSIONS["target"] + 1).key != stage.key
    assert len(stage.key) == 64


def test_the_payload_says_everything_that_the_key_holds(path_with: PathWith) -> None:
    for stage in path_with():
        assert set(stage.payload) == {"kind", "version", "settings", "data", "seed", "parent"}
        assert stage.payload["parent"] == (stage.parent.key if stage.parent else None)


def test_examples_of_a_stage_are_whole_batches(path_with: PathWith) -> None:
    path = path_with({"target.epochs": 3, "target.batch_size": 64, "align.steps": 10})
    examples = {stage.kind: stage.num_examples for stage in path}
    assert examples == {
        "model": 0, "align": 320, "intermediate": 512, "target": 47 * 64, "evaluate": 0,
    }  # fmt: skip


def test_the_changes_of_this_test_are_changes() -> None:
    base = TrialSpec.model_validate(FULL)
    for setting, (value, _) in FIRST_CHANGED.items():
        path = {"model.name": "model"}.get(setting, WHOLE.get(setting, setting))
        assert TrialSpec.model_validate(with_values({path: value})) != base, setting


# -- what is evaluated besides ------------------------------------------------------------


@pytest.fixture
def retrieval_facts(facts: Facts) -> Facts:
    """With a retrieval task in three languages."""
    metrics = ("accuracy", "accuracy_into_pivot", "accuracy_from_pivot", "margin_accuracy")
    splits = {
        (language, "test"): SplitFacts(9, f"found {language}") for language in ("qab", "qac", "qad")
    }
    task = TaskFacts("found", "retrieval", 2, (), metrics, splits)  # type: ignore[arg-type]
    return replace(facts, tasks={**facts.tasks, "found": task})


def test_an_evaluation_that_asks_for_nothing_more_says_nothing_of_it(path_with: PathWith) -> None:
    plain = path_with()[-1]
    spelled = path_with({"evaluate": {"pairs": "none", "also": [], "retrieval_layer": None}})[-1]
    assert plain.key == spelled.key
    assert plain.settings.keys().isdisjoint({"pairs", "also", "retrieval_layer"})
    assert set(plain.data) == {"dev", "test"}


def test_all_pairs_are_those_of_the_languages_that_are_scored(path_with: PathWith) -> None:
    asked = {"evaluate": {"languages": ["qab"], "pairs": "all"}}
    pairs = path_with(asked)[-1].settings["pairs"]
    assert pairs == (("qaa", "qaa"), ("qaa", "qab"), ("qab", "qaa"), ("qab", "qab"))
    named = {"evaluate": {"languages": ["qab"], "pairs": [list(pair) for pair in pairs[::-1]]}}
    assert path_with(named)[-1].key == path_with(asked)[-1].key


def test_further_tasks_enter_the_key_with_their_data_whatever_their_order(
    path_with: PathWith, retrieval_facts: Facts
) -> None:
    def stage(*names: str, facts: Facts = retrieval_facts, **more: Any) -> Stage:
        return path_with({"evaluate": {"also": list(names), **more}}, facts=facts)[-1]

    both = stage("found", "pairs")
    assert both.key == stage("pairs", "found").key
    assert both.settings["also"]["found"] == {"version": 2, "languages": ("qab", "qac", "qad")}
    assert both.data["also"]["found"]["qac"] == "found qac"
    assert both.settings["retrieval_layer"] == 1
    assert stage("found", retrieval_layer=2).key != stage("found").key
    assert stage("found", retrieval_layer=1).key == stage("found").key
    assert "retrieval_layer" not in stage("pairs").settings
    ranked = replace(retrieval_facts.tasks["found"], kind="ranking")
    by_encoder = {**retrieval_facts.tasks, "found": ranked}
    beside = stage("found", facts=replace(retrieval_facts, tasks=by_encoder))
    assert beside.settings["retrieval_layer"] == 1
    target = beside.settings["task"]["name"]
    by_head = {**by_encoder, target: replace(by_encoder[target], kind="ranking", labels=())}
    below = stage("found", facts=replace(retrieval_facts, tasks=by_head))
    assert "retrieval_layer" not in below.settings
    some = stage("found", languages=["qad"])
    assert some.settings["also"]["found"]["languages"] == ("qad",)
    other = with_data(retrieval_facts, "found", "qad", "test")
    assert stage("found", facts=other).key != stage("found").key


def test_the_dev_sets_of_a_tuned_task_enter_the_key_and_those_of_others_do_not(
    path_with: PathWith, retrieval_facts: Facts
) -> None:
    retrieval = retrieval_facts.tasks["found"]
    dev = {
        (language, "dev"): SplitFacts(9, f"dev {language}") for language in ("qab", "qac", "qad")
    }

    def stage(kind: str, **changed: str) -> Stage:
        more = {(language, "dev"): SplitFacts(9, text) for language, text in changed.items()}
        task = replace(retrieval, kind=kind, splits={**retrieval.splits, **dev, **more})  # type: ignore[arg-type]
        facts = replace(retrieval_facts, tasks={**retrieval_facts.tasks, "found": task})
        return path_with({"evaluate": {"also": ["found"], "languages": ["qad"]}}, facts=facts)[-1]

    assert stage("retrieval").key == stage("retrieval", qad="other").key
    assert "also_dev" not in stage("retrieval").data
    assert stage("mining").data["also_dev"] == {"found": {"qad": "dev qad"}}
    assert stage("mining").key != stage("mining", qad="other").key
    assert stage("mining").key == stage("mining", qab="other").key, "qab is not scored"


@pytest.mark.parametrize(("task", "num"), [("pawsx", 49), ("xnli", 225)])
def test_all_pairs_are_those_of_the_published_scripts(task: str, num: int) -> None:
    pairs = Evaluate(pairs="all").language_pairs(XTREME[task].languages)
    assert len(set(pairs)) == len(pairs) == num


def test_gold_links_are_in_the_keys_of_the_stages_that_read_them(
    path_with: PathWith, facts: Facts
) -> None:
    linked = [replace(facts, links={"qaa-qab": digest}) for digest in ("one", "other")]
    diagnosed = {"evaluate.diagnostics": ["alignment"]}
    weam = {"align": {"objective": "weam", "languages": ["qaa", "qab"]}}
    learned = {"align": {**weam["align"], "aligner": "ibm1"}}
    elsewhere = {"align": {**weam["align"], "languages": ["qaa", "qac"]}}
    for values, is_read, place in (
        (weam, True, 1),
        (learned, False, 1),
        (elsewhere, False, 1),
        ({}, False, -1),
        (diagnosed, True, -1),
        ({"evaluate.diagnostics": ["cka"]}, False, -1),
    ):
        keys = {path_with(values, facts=known)[place].key for known in (facts, *linked)}
        assert len(keys) == (3 if is_read else 1), values


def scored_by(facts: Facts, task: str, *metrics: str) -> Facts:
    scored = replace(facts.tasks[task], metrics=metrics)
    return replace(facts, tasks={**facts.tasks, task: scored})


@pytest.mark.parametrize("task", ["nli", "pairs"])
def test_a_metric_that_a_task_gets_later_is_scored_anew_and_trains_nothing(
    path_with: PathWith, facts: Facts, task: str
) -> None:
    values = {"evaluate.also": ["pairs"]}
    before = path_with(values)
    again = path_with(values, facts=scored_by(facts, task, "accuracy", "macro_f1"))
    later = path_with(values, facts=scored_by(facts, task, "accuracy", "macro_f1", "mcc"))
    assert changed(before, again) == []
    assert changed(before, later) == ["evaluate"]
    settings = later[-1].settings
    entry = settings["task"] if task == "nli" else settings["also"][task]
    assert entry["metrics"] == ["accuracy", "macro_f1", "mcc"]


def test_shipped_tasks_keep_their_evaluation_keys() -> None:
    """Kinds that came later name their metrics from the beginning."""
    earlier = [task for task in load_tasks() if task.kind in task_types.UNNAMED_METRICS]
    assert {task.kind for task in earlier} == set(task_types.KINDS) - {"text"}
    for task in earlier:
        facts = TaskFacts(task.name, task.kind, task.version, task.labels, task.metrics, {})
        assert facts.scoring == {"version": task.version}, task.name
