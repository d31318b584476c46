"""Cross-checks between a sweep and the facts about its models and data, one test a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from xlt_ray.config.checks.check_sweep import CHECKS, check, warnings_of
from xlt_ray.config.facts import Coverage, Facts, ModelFacts, TaskFacts
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


@pytest.fixture
def problems(sweep_from: ReadSweep, facts: Facts) -> Problems:
    """Problems by key of the sound sweep with overrides."""

    def find(*overrides: str, facts: Facts = facts) -> dict[str, SpecError]:
        found = check(sweep_from(SOUND, *overrides), facts)
        assert len({one.key for one in found}) == len(found), found
        return {one.key: one for one in found}

    return find


WSD = "intermediate={task: pairs, schedule: wsd, %s}"


def test_check_ladder_can_be_climbed(problems: Problems) -> None:
    found = problems(WSD % "epochs: 3")
    assert set(found) == {"intermediate.epochs"}
    assert "epochs: 1" in found["intermediate.epochs"].remedy
    assert "separate" in found["intermediate.epochs"].remedy
    separate = "schedule: {method: wsd, several_epochs: separate}"
    assert not problems(f"intermediate={{task: pairs, epochs: 3, {separate}}}")
    short = problems(f"intermediate={{task: pairs, size: 96, epochs: 3, {separate}}}")
    assert set(short) == {"intermediate.schedule.warmup_examples"}


def test_a_ladder_warms_up_over_examples(problems: Problems) -> None:
    assert set(problems(WSD % "warmup: 0.2")) == {"intermediate.warmup"}
    found = problems(WSD % "size: {choice: [100, 500]}")
    assert set(found) == {"intermediate.schedule.warmup_examples"}
    assert "size 100" in str(found["intermediate.schedule.warmup_examples"])


def without(facts: Facts, task: str, *splits: tuple[str, str]) -> Facts:
    known = facts.tasks[task]
    left = {key: value for key, value in known.splits.items() if key not in splits}
    return replace(facts, tasks={**facts.tasks, task: replace(known, splits=left)})


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("target.fusion={method: dlfa, layer: 1}",),
        ("target.fusion={method: dlfa, layer: {int: [0, num_layers - 1]}}",
         "model={choice: [toy:2x64, toy:4x64]}", "target.max_length=100"),
        ("target.size=1000", "intermediate={task: pairs, size: 500}"),
        ("target.task=tags", "target.hybrid={ratio: 0.5, languages: [qab]}"),
        ("align={objective: code_switch_mlm}",),
        ("align={objective: tlm, languages: [qab, qac]}",),
        ("resources={workers: 4, micro_batch: 2}",),
        ("objective={languages: target}",),
        ("objective={languages: [qab]}", "evaluate.languages=[qab]"),
        ("evaluate.languages=[]",),
    ],
)  # fmt: skip
def test_a_sound_sweep_has_no_problem(problems: Problems, overrides: tuple[str, ...]) -> None:
    assert problems(*overrides) == {}


def test_every_check_has_a_test_here() -> None:
    assert {check.__name__ for check in CHECKS} == {
        name.removeprefix("test_check_") for name in globals() if name.startswith("test_check_")
    }


@pytest.mark.parametrize(
    ("key", "override", "most"),
    [
        ("target.fusion.layer", "target.fusion={method: dlfa, layer: %s}", 1),
        ("align.layer", "align={objective: contrastive, layer: %s}", 2),
        ("evaluate.retrieval_layer", "evaluate={also: [found], retrieval_layer: %s}", 2),
    ],
)
def test_check_layers_exist(
    problems: Problems, wide: Facts, key: str, override: str, most: int
) -> None:
    (error,) = problems(override % (most + 1), facts=wide).values()
    assert error.key == key
    assert "toy:2x64" in error.problem
    assert f"at most {most}," in error.remedy
    bound = "num_layers - 1" if most == 1 else "num_layers"
    assert not problems(override % f"{{int: [0, {bound}]}}", facts=wide)


def test_check_target_can_be_trained(problems: Problems, facts: Facts) -> None:
    assert "target.size" in problems("target.size=1001")
    assert "1000 training examples" in str(problems("target.size=1001")["target.size"])
    assert "pairs has no training data in 'qab'" in str(
        problems("target={task: pairs, source_language: qab}")["target.source_language"]
    )
    no_dev = without(facts, "nli", ("qaa", "dev"))
    assert "no dev set" in str(problems(facts=no_dev)["target.source_language"])
    no_train = without(facts, "pairs", ("qaa", "train"))
    assert "has no training data" in str(
        problems("target.task=pairs", facts=no_train)["target.task"]
    )


def test_check_intermediate_can_be_trained(problems: Problems) -> None:
    assert "at most 500" in str(
        problems("intermediate={task: pairs, size: 501}")["intermediate.size"]
    )
    found = problems("intermediate={task: pairs, source_language: qac}")
    assert "no training data in 'qac'" in str(found["intermediate.task"])


def test_check_target_labels_stay_unseen(problems: Problems, facts: Facts) -> None:
    (error,) = problems("intermediate={task: nli, source_language: qab}").values()
    assert error.key == "intermediate.source_language"
    assert "labels in 'qab'" in error.problem
    found = problems("intermediate={task: [nli, tags], languages: [qaa, qab]}")
    assert set(found) == {"intermediate.languages"}
    assert not problems("intermediate={task: [nli, tags], languages: [qaa, qab]}",
                        "evaluate.languages=[qac]")  # fmt: skip
    assert not problems("intermediate={task: tags, languages: [qaa, qab]}"), "of another task"
    pairs = facts.tasks["pairs"]
    lent = {**pairs.splits, ("qab", "train"): facts.tasks["nli"].splits["qab", "train"]}
    same = replace(facts, tasks={**facts.tasks, "pairs": replace(pairs, splits=lent)})
    (error,) = problems("intermediate={task: pairs, source_language: qab}", facts=same).values()
    assert "nli would be trained" in error.problem, "the same examples under another name"


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
        one.name: TaskFacts(one.name, one.kind, 1, one.labels, one.metrics, source.splits(one))
        for one in (task_named("stsb"), task_named("stsb-score"))
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


def test_check_masked_text_is_there(problems: Problems, facts: Facts) -> None:
    mlm = "intermediate={task: pairs, mlm: {share: 0.1%s}}"
    assert not problems(mlm % "")
    (error,) = problems(mlm % ", languages: [qaa, xx]").values()
    assert error.key == "intermediate.mlm.languages"
    assert "'xx'" in error.problem
    assert "qad" in error.remedy
    (error,) = problems(mlm % "", facts=replace(facts, parallel={})).values()
    assert error.key == "intermediate.mlm"


def test_check_augmentation_has_neighbours(problems: Problems, facts: Facts) -> None:
    lists = "target.robust={method: augment}"
    (error,) = problems(lists).values()
    assert error.key == "target.robust.neighbours"
    assert "neighbours/qaa.tsv" in error.remedy
    assert not problems(lists, facts=replace(facts, neighbours={"qaa": "digest"}))
    lexicon = "target.robust={method: augment, neighbours: lexicon}"
    assert not problems(lexicon)
    (error,) = problems(lexicon, facts=replace(facts, lexicon={})).values()
    assert "no lexicon from 'qaa'" in error.problem


def test_check_words_are_covered(problems: Problems, facts: Facts) -> None:
    known = Coverage("target.hybrid.ratio", "the lexicon from qaa", "the training text", 0.25)
    assert not problems(facts=replace(facts, coverage=(known,)))
    assert str(known) == "the lexicon from qaa has 25.0 % of the words of the training text"
    nothing = replace(known, share=0.0)
    found = problems(facts=replace(facts, coverage=(known, nothing)))
    assert set(found) == {"target.hybrid.ratio"}
    assert "no word of the training text" in str(found["target.hybrid.ratio"])


def test_check_scaled_batches_are_whole(problems: Problems) -> None:
    hybrid = "target={task: tags, hybrid: {ratio: 0.5, mixing: %s, batch_scale: %s}}"
    source = "target.source_language=qaa"
    assert not problems(hybrid % ("per_batch", 0.5), source)
    assert not problems(hybrid % ("in_batch", 1.0), source)
    (error,) = problems(hybrid % ("in_batch", 2.0), source).values()
    assert error.key == "target.hybrid.batch_scale"


def test_check_rankings_are_trained(problems: Problems, facts: Facts) -> None:
    nli = replace(facts.tasks["nli"], kind="ranking", labels=())
    ranked = replace(facts, tasks={**facts.tasks, "nli": nli})
    (error,) = problems("target.ranking.negatives=3").values()
    assert error.key == "target.ranking"
    assert "nli is not of the kind ranking" in error.problem
    many = ("target.ranking.negatives=8", "target.batch_size=8")
    (error,) = problems(*many, facts=ranked).values()
    assert (error.key, error.remedy) == (
        "target.ranking.negatives", "at most 7, or a larger batch",
    )  # fmt: skip
    assert not problems("target.ranking={negatives: 7, temperature: 0.01}", facts=ranked)
    (error,) = problems("intermediate={task: pairs, ranking: {negatives: 2}}").values()
    assert error.key == "intermediate.ranking"


def test_batches_in_other_languages_need_translations(problems: Problems, wide: Facts) -> None:
    uniform = "target.hybrid.mono=uniform"
    assert not problems(uniform, facts=wide)
    assert not problems(uniform, "target.hybrid.languages=[qab]", facts=wide)
    (error,) = problems(uniform).values()
    assert error.key == "target.hybrid.mono"
    assert "not translations of each other" in error.problem
    others = [(one, "train") for one in ("qab", "qac", "qad")]
    for overrides in ((uniform,), (uniform, "target.hybrid.ratio=0.5")):
        (error,) = problems(*overrides, facts=without(wide, "nli", *others)).values()
        assert (error.key, error.remedy) == ("target.hybrid.mono", "mono: source")
    (error,) = problems(uniform, "target.hybrid.text=switched", facts=wide).values()
    assert "row by row, and text is switched" in error.problem


def test_check_negatives_are_in_one_pass(problems: Problems) -> None:
    align = "align={objective: contrastive, batch_size: 32, group: %s}"
    assert not problems(align % "batch")
    assert not problems(align % 8, "resources={workers: 2, micro_batch: 8}")
    for resources in ("{workers: 2}", "{micro_batch: 16}"):
        (error,) = problems(align % "batch", f"resources={resources}").values()
        assert error.key == "align.group"
        assert "a pass of 16 pairs" in error.problem
    assert "align.group" in problems(align % 12)


def test_check_languages_are_there(problems: Problems, facts: Facts) -> None:
    error = problems("evaluate.languages=[qab, qzz]")["evaluate.languages"]
    assert "'qzz'" in error.problem
    assert "qab" not in error.problem
    tests = tuple((one, "test") for one in ("qaa", "qab", "qac", "qad"))
    assert "no test set in any" in str(problems(facts=without(facts, "nli", *tests))["target.task"])


def test_check_objective_is_measured(problems: Problems, facts: Facts) -> None:
    assert "did you mean accuracy?" in str(problems("objective.metric=acuracy")["objective.metric"])
    assert "no dev set in 'qzz'" in str(
        problems("objective.languages=[qzz]")["objective.languages"]
    )
    only_source = without(facts, "nli", *((one, "dev") for one in ("qab", "qac", "qad")))
    assert "objective.languages" in problems("objective.languages=target", facts=only_source)


@pytest.mark.parametrize(
    "overrides",
    [
        ("objective.languages=[qab]", "evaluate.dev=source"),
        ("objective.languages=target", "evaluate.dev=source"),
        ("objective.languages=all", "evaluate.dev=source"),
        ("objective.languages=[qab]", "evaluate.languages=[qac]"),
        ("objective.languages=target", "evaluate.languages=[]"),
    ],
)
def test_an_objective_needs_dev_sets_that_are_scored(
    problems: Problems, overrides: tuple[str, ...]
) -> None:
    assert "evaluate.dev: all" in problems(*overrides)["objective.languages"].remedy


def test_check_hybrid_has_text(problems: Problems, facts: Facts) -> None:
    tags = ("target.task=tags", "target.hybrid.ratio=0.5")
    assert problems(*tags) == {}
    no_words = replace(facts, lexicon={})
    assert "neither" in str(problems(*tags, facts=no_words)["target.hybrid.ratio"])
    assert problems("target.task=tags", facts=no_words) == {}
    error = problems(*tags, "target.hybrid.languages=[qad]")["target.hybrid.languages"]
    assert "available: qab, qac" in error.remedy
    (error,) = problems(*tags, "target.hybrid.languages=[]").values()
    assert (error.key, error.problem) == ("target.hybrid.languages", "the list is empty")


def test_sentences_of_rows_that_are_no_translations_are_not_mixed(
    problems: Problems, facts: Facts, wide: Facts
) -> None:
    half = "target.hybrid.ratio=0.5"
    (error,) = problems(half).values()
    assert error.key == "target.hybrid.ratio"
    assert "nli" in error.problem
    assert "is_parallel: true" in error.remedy
    assert not problems(half, facts=wide)
    others = [(one, "train") for one in ("qab", "qac", "qad")]
    assert not problems(half, facts=without(facts, "nli", *others)), "a lexicon switches words"
    assert not problems(half, "target.hybrid.text=switched")
    translated = (half, "target.hybrid.text=translated")
    assert not problems(*translated, facts=wide)
    (error,) = problems(*translated, facts=without(facts, "nli", *others)).values()
    assert (error.key, error.remedy) == ("target.hybrid.text", "text: switched")


def test_check_alignment_has_text(problems: Problems, facts: Facts) -> None:
    tlm = "align={objective: tlm}"
    for one in ("[qaa]", "[qaa, qaa]"):
        assert "two languages" in str(problems(tlm, f"align.languages={one}")["align.languages"])
    assert "no parallel text in 'qzz'" in str(
        problems(tlm, "align.languages=[qaa, qzz]")["align.languages"]
    )
    switch = "align={objective: code_switch_mlm}"
    assert "needs a lexicon" in str(
        problems(switch, facts=replace(facts, lexicon={}))["align.objective"]
    )
    others = "align.languages=[qaa, qad]"
    assert "between the languages qaa, qad" in str(problems(switch, others)["align.objective"])
    assert not problems(switch, "align.languages=[qaa, qac]")
    assert problems(tlm, facts=replace(facts, lexicon={})) == {}


def test_check_lengths_fit(problems: Problems) -> None:
    found = problems(
        "target.max_length=257",
        "intermediate={task: pairs, max_length: 300}",
        "align={objective: tlm, max_length: 256}",
    )
    assert set(found) == {"target.max_length", "intermediate.max_length"}
    assert "at most 256" in found["target.max_length"].remedy


def test_check_batches_split_evenly(problems: Problems) -> None:
    assert "target.batch_size" in problems("resources.workers=3")
    assert "target.batch_size" in problems("resources={workers: 2, micro_batch: 5}")
    assert "target.batch_size" in problems("resources.workers=4", "target.batch_size=2")
    assert problems("resources={workers: 2, micro_batch: 64}") == {}


def test_a_fault_of_one_model_and_one_block_alone_is_found(problems: Problems) -> None:
    found = problems(
        "model={choice: [real, toy:4x64, toy:2x64]}",
        "target.fusion={choice: [{method: none}, {method: mix}, "
        "{method: dlfa, layer: {int: [0, 2]}}]}",
        "target.max_length=64",
    )
    assert set(found) == {"target.fusion.layer"}
    assert "toy:2x64" in found["target.fusion.layer"].problem


SEVERAL = "target.weight_decay={choice: [0.0, 0.1]}"


def test_early_stopping_that_could_stop_nothing_is_refused(problems: Problems) -> None:
    # 1000 examples three times in batches of 32 are 3008, evaluated at 25, 50, 75 and 100 %.
    stop = "early_stop={method: asha, grace_examples: %d}"
    assert problems(SEVERAL, stop % 2272) == {}
    found = problems(SEVERAL, stop % 2273)
    assert set(found) == {"early_stop"}
    assert "at most 2272" in found["early_stop"].remedy
    # The shortest training counts, wherever it is in the space.
    shorter = ("target.size={choice: [all, 320]}", "target.epochs={int: [1, 3]}")
    assert "at most 256" in problems(stop % 257, *shorter)["early_stop"].remedy
    assert problems(stop % 240, *shorter) == {}
    assert problems("early_stop={method: asha, grace: 0.75}", *shorter) == {}
    found = problems(SEVERAL, "early_stop={method: asha, grace: 0.8}")
    assert "at most 0.755" in found["early_stop"].remedy
    one = problems(SEVERAL, "target.evaluations=1", stop % 1)["early_stop"]
    assert "2 or more" in one.remedy
    short = problems(SEVERAL, "target.size=32", "target.epochs=1", stop % 1)["early_stop"]
    assert "no evaluation follows before" in short.problem


def test_a_single_configuration_competes_with_none(problems: Problems) -> None:
    found = problems("early_stop={method: asha, grace: 0.2}", "search.seeds=3")
    assert "this sweep has one" in found["early_stop"].problem


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        (("early_stop={method: asha, grace: 0.2}", SEVERAL, "search.trials=1"),
         "early_stop", "as long as search.trials is 1"),
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
    found = problems("target.evaluations=1", "target.average=3")
    assert set(found) == {"target.average"}


def test_early_stopping_compares_at_the_same_evaluations(problems: Problems) -> None:
    stop = "early_stop={method: asha, grace: 0.25}"
    found = problems(stop, "target.evaluations={choice: [4, 5]}")
    assert set(found) == {"target.evaluations"}
    assert problems("target.evaluations={choice: [4, 5]}") == {}


@pytest.mark.parametrize(
    "stop", ["{method: asha}", "{method: asha, grace: 0.2, grace_examples: 100}"]
)
def test_early_stopping_has_one_grace(sweep_from: ReadSweep, stop: str) -> None:
    with pytest.raises(SpecError, match=r"early_stop: .*needs either grace or grace_examples"):
        sweep_from(SOUND, f"early_stop={stop}")


def test_all_problems_of_all_probes_are_told_once(sweep_from: ReadSweep, facts: Facts) -> None:
    sweep = sweep_from(
        SOUND,
        "target.size={choice: [10, 2000, 3000]}",
        "target.max_length={choice: [64, 1024]}",
        "objective.metric=bleu",
    )
    found = [(one.key, one.problem) for one in check(sweep, facts)]
    assert len(found) == len(set(found)) == 4
    assert sorted(key for key, _ in found) == [
        "objective.metric", "target.max_length", "target.size", "target.size",
    ]  # fmt: skip


@pytest.fixture
def wide(facts: Facts) -> Facts:
    """With parallel rows of the target task, and tasks that fit its head and that do not."""
    nli = facts.tasks["nli"]
    found = replace(nli, name="found", kind="retrieval", labels=())
    found = replace(found, splits={("qab", "test"): nli.splits["qab", "test"]})
    return replace(
        facts,
        tasks={
            **facts.tasks,
            "nli": replace(nli, is_parallel=True),
            "turned": replace(nli, name="turned", labels=nli.labels[::-1]),
            "found": found,
        },
    )


def test_check_pairs_are_parallel(problems: Problems, facts: Facts, wide: Facts) -> None:
    for pairs in ("all", "[[qaa, qab], [qab, qaa]]"):
        assert not problems(f"evaluate.pairs={pairs}", facts=wide)
        (error,) = problems(f"evaluate.pairs={pairs}", facts=facts).values()
        assert error.key == "evaluate.pairs"
        assert "nli" in error.problem
    (error,) = problems("target.task=tags", "evaluate.pairs=all", facts=wide).values()
    assert "not sentence pairs" in error.problem
    error = problems("evaluate.pairs=[[qaa, qzz]]", facts=wide)["evaluate.pairs"]
    assert "'qzz'" in error.problem
    left_out = ("evaluate={languages: [qab], pairs: [[qab, qac]]}",)
    assert "evaluate.languages" in problems(*left_out, facts=wide)["evaluate.pairs"].remedy


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ("tags", "kind tag, the head of nli is for kind pair"),
        ("turned", "labels b, a, the head of nli has learned a, b"),
        ("nli", "is the target task"),
        ("pairs, pairs", "named twice"),
    ],
)
def test_check_further_tasks_fit(
    problems: Problems, wide: Facts, names: str, complaint: str
) -> None:
    (error,) = problems(f"evaluate.also=[{names}]", facts=wide).values()
    assert error.key == "evaluate.also"
    assert complaint in error.problem
    assert not problems("evaluate.also=[pairs, found]", facts=wide)


def test_a_further_task_needs_a_language_that_is_evaluated(problems: Problems, wide: Facts) -> None:
    (error,) = problems("evaluate={languages: [qac], also: [found]}", facts=wide).values()
    assert "no test set in a language" in error.problem
    assert "qab" in error.remedy


def test_a_mining_task_needs_dev_sets_to_choose_its_threshold_on(
    problems: Problems, wide: Facts
) -> None:
    found = wide.tasks["found"]
    split = found.splits["qab", "test"]

    def mined(*places: tuple[str, str]) -> Facts:
        splits = dict.fromkeys((("qab", "test"), ("qac", "test"), *places), split)
        task = replace(found, kind="mining", splits=splits)  # type: ignore[arg-type]
        return replace(wide, tasks={**wide.tasks, "found": task})

    (error,) = problems("evaluate.also=[found]", facts=mined(("qab", "dev"))).values()
    assert error.key == "evaluate.also"
    assert "no dev set in qac to choose its threshold on" in error.problem
    assert not problems("evaluate.also=[found]", facts=mined(("qab", "dev"), ("qac", "dev")))
    asked = "evaluate={languages: [qab], also: [found]}"
    assert not problems(asked, facts=mined(("qab", "dev")))


def test_a_retrieval_task_cannot_be_trained(problems: Problems, wide: Facts) -> None:
    assert "has no training data" in str(problems("target.task=found", facts=wide)["target.task"])


def test_check_sentences_are_retrieved(problems: Problems, wide: Facts) -> None:
    (error,) = problems("evaluate={also: [pairs], retrieval_layer: 1}", facts=wide).values()
    assert "neither a retrieval task" in error.problem
    before = "evaluate={also: [%s], retrieval_encoder: before}"
    assert not problems(before % "found", facts=wide)
    (error,) = problems(before % "pairs", facts=wide).values()
    assert error.key == "evaluate.retrieval_encoder"


def test_check_diagnostics_have_text(problems: Problems, facts: Facts) -> None:
    asked = "evaluate.diagnostics=[retrieval, cka]"
    assert not problems(asked)
    none = replace(facts, parallel={})
    assert "no parallel text in 'qaa'" in str(problems(asked, facts=none)["evaluate.diagnostics"])
    alone = replace(facts, parallel={"qaa": "parallel qaa", "qzz": "parallel qzz"})
    error = problems(asked, facts=alone)["evaluate.diagnostics"]
    assert "no scored language has parallel text" in str(error)
    (error,) = problems("evaluate.diagnostics=[cka, cka]").values()
    assert "named twice" in error.problem
    (error,) = problems("evaluate.diagnostics=[alignment]").values()
    assert "known to be aligned" in error.problem
    assert not problems("evaluate.diagnostics=[alignment]", facts=replace(facts, has_links=True))
    (error,) = problems("evaluate.diagnostic_sentences=100").values()
    assert error.key == "evaluate.diagnostic_sentences"


SHOTS = "few_shot={language: qab, shots: %d}"


def test_check_shots_are_there(problems: Problems) -> None:
    assert not problems(SHOTS % 50)
    assert "has 50 examples, not 51" in str(problems(SHOTS % 51)["few_shot.shots"])


def test_check_shots_are_not_selected_on(problems: Problems) -> None:
    assert set(problems(SHOTS % 5, "objective.languages=all")) == {"objective.languages"}


def test_check_zero_shot_alone_is_examined(problems: Problems) -> None:
    assert set(problems(SHOTS % 5, "evaluate.also=[pairs]")) == {"evaluate.also"}


def test_check_positions_can_be_reset(problems: Problems, facts: Facts) -> None:
    model = replace(facts.models["toy:2x64"], reads_positions=False)
    relative = replace(facts, models={**facts.models, "toy:2x64": model})
    tlm = "align={objective: tlm, reset_positions: %s}"
    assert not problems(tlm % "true")
    assert not problems(tlm % "false", facts=relative)
    (error,) = problems(tlm % "true", facts=relative).values()
    assert error.key == "align.reset_positions"
    assert "distances" in error.problem


@pytest.mark.parametrize("placement", ["pieces", "first", "mean"])
def test_check_fused_states_are_read(problems: Problems, placement: str) -> None:
    fusion = f"target.fusion={{method: aif, layer: 1, placement: {placement}}}"
    assert not problems(fusion)
    found = problems(fusion, "target.task=tags")
    assert set(found) == (set() if placement == "pieces" else {"target.fusion.placement"})


def test_check_fusion_is_not_too_narrow(problems: Problems) -> None:
    fusion = "target.fusion={method: dlfa, layer: 1, reduction: %d}"
    assert not problems(fusion % 16)
    (error,) = problems(fusion % 17).values()
    assert error.key == "target.fusion.reduction"
    assert "at most 16" in error.remedy


def test_a_language_that_is_lacking_is_told_with_the_nearest(
    sweep_from: ReadSweep, facts: Facts
) -> None:
    asked = ("target.source_language=qaaa", "align={objective: tlm, languages: [qabb, qac]}")
    remedies = {(one.key, one.remedy) for one in check(sweep_from(SOUND, *asked), facts)}
    assert ("target.source_language", "did you mean qaa?") in remedies
    assert ("align.languages", "did you mean qab?") in remedies
