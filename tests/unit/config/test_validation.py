"""Each kind of mistake is reported with file, line, key, what is wrong and what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import SpecErrors

SOUND = """name: t
data: {source: toy}
model: toy:2x64
target:
  task: nli
  source_language: qaa
search:
  trials: 2
"""
ReadSweep = Callable[..., SweepSpec]


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ("  task: nli", "  tsk: nli", 5, "target.tsk", "unknown key; did you mean task?"),
        ("  trials: 2", "  trails: 2", 8, "search.trails", "did you mean trials?"),
        ("  trials: 2", "  trials: 2\n  seeds: {race: {frist: 1}}", 9, "search.seeds.race.frist",
         "unknown key; did you mean first?"),
        ("  trials: 2", "  trials: 2\n  seeds: {race: {first: 8}}", 9, "search.seeds.race",
         "most must be above first, which is 8"),
        ("  trials: 2", "  trials: 2\n  sampler: random\n  cost_aware: true", 10,
         "search.cost_aware", "needs a sampler that learns from scores, and random does not"),
        ("  trials: 2", "  seeds: 2", 7, "search.trials", "is missing; configurations to try"),
        ("model: toy:2x64", "modle: x", 3, "modle", "did you mean model?"),
        ("model: toy:2x64", "model: {nme: x}", 3, "model.nme", "did you mean name?"),
        ("name: t", "name: a b", 1, "name", "a name consists of"),
        ("name: t", "name: 3", 1, "name", "3: must be a string; write it in quotes: '3'"),
        ("source: toy", "source: web", 2, "data.source", "there is no source 'web'"),
        ("source: toy", "root: x", 2, "data", "has no 'source'; one of toy, files, hub"),
        ("source: toy", "source: toy, seed: x", 2, "data.seed", "'x': must be an integer"),
        ("  trials: 2", "  trials: 0", 8, "search.trials", "greater than or equal to 1"),
        ("  trials: 2", "  trials: 2\n  sampler: cma", 9, "search.sampler", "'tpe', 'gp'"),
        ("  task: nli", "  task: nli\n  epochs: 1.5", 6, "target.epochs", "1.5"),
        ("  task: nli", "  task: nli\n  size: 0", 6, "target.size",
         "0: must be 'all', or greater than or equal to 1"),
        ("  task: nli", "  task: nli\n  learning_rate: .inf", 6, "target.learning_rate", "finite"),
        ("  task: nli", "  task: nli\n  learning_rate: -1", 6, "target.learning_rate",
         "target.learning_rate: -1: must be greater than 0"),
        ("  task: nli", "  task: nli\n  fusion: dlfa", 6, "target.fusion",
         "expected a mapping, got 'dlfa'; write {method: dlfa, ...}"),
        ("  task: nli", "  task: nli\n  fusion: {method: aff}", 6, "target.fusion.method",
         "there is no method 'aff'; "),
        ("  task: nli", "  task: nli\n  fusion: {layer: 3}", 6, "target.fusion",
         "has no 'method'; one of none, dlfa, aif, mix"),
        ("  task: nli", "  task: nli\n  fusion:\n    method: dlfa", 6, "target.fusion.layer",
         "is missing"),
        ("  task: nli", "  task: nli\n  fusion:\n    method: dlfa\n    layr: 1", 8,
         "target.fusion.layr", "did you mean layer?"),
        ("  task: nli", "  task: nli\n  fusion:\n    method: dlfa\n    layer: -1", 8,
         "target.fusion.layer", "greater than or equal to 0"),
        ("  task: nli", "  task: nli\n  hybrid: {ratio: 2}", 6, "target.hybrid.ratio", "less than"),
        ("search:", "align: {objective: tlm, step: 3}\nsearch:", 7, "align.step", "steps?"),
        ("search:", "intermediate: {size: 3}\nsearch:", 7, "intermediate.task", "is missing"),
        ("search:", "intermediate: {task: []}\nsearch:", 7, "intermediate.task", "list is empty"),
        ("search:", "intermediate: {task: [a, b, a]}\nsearch:", 7, "intermediate.task",
         "a is named twice"),
        ("search:", "intermediate: {task: a, languages: [qaa, qaa]}\nsearch:", 7,
         "intermediate.languages", "qaa is named twice"),
        ("search:", "intermediate: {task: a, sampling: {method: temperature, temperature: 0.5}}\n"
         "search:", 7, "intermediate.sampling.temperature", "greater than or equal to 1"),
        ("search:", "intermediate: {task: a, sampling: {method: temperatur}}\nsearch:", 7,
         "intermediate.sampling.method", "there is no method 'temperatur'"),
        ("search:", "intermediate: {task: a, mlm: {share: 1.0}}\nsearch:", 7,
         "intermediate.mlm.share", "less than 1"),
        ("search:", "intermediate: {task: a, mlm: {mask: 0.5}}\nsearch:", 7,
         "intermediate.mlm.share", "is missing"),
        ("search:", "few_shot: {language: a, shots: 0}\nsearch:", 7, "few_shot.shots",
         "greater than or equal to 1"),
        ("search:", "few_shot: {language: [a], shots: 1}\nsearch:", 7, "few_shot.language",
         "string"),
        ("search:", "few_shot: {language: a, shots: 1, split: test}\nsearch:", 7, "few_shot.split",
         "'dev' or 'train'"),
        ("search:", "few_shot: {language: a, shots: 1, sample: -1}\nsearch:", 7, "few_shot.sample",
         "greater than or equal to 0"),
        ("search:", "evaluate: {languages: qab}\nsearch:", 7, "evaluate.languages",
         "must be 'all', or a list; write a list: [qab]"),
        ("search:", "evaluate: {languages: [1]}\nsearch:", 7, "evaluate.languages.0", "string"),
        ("search:", "objective: {split: test}\nsearch:", 7, "objective.split", "use dev"),
        ("search:", "early_stop: {method: median}\nsearch:", 7, "early_stop.method", "'asha'"),
        ("search:", "failures: {oom: retry}\nsearch:", 7, "failures.oom",
         "expected a mapping, got 'retry'; write {action: retry}"),
        ("search:", "objective: [accuracy]\nsearch:", 7, "objective",
         "the first of several objectives must be source or a block such as {metric: accuracy}"),
        ("search:", "early_stop: true\nsearch:", 7, "early_stop", "write {method: asha}"),
        ("search:", "precision: bf16\nsearch:", 7, "precision", "unknown key"),
        ("search:", "resources: {gpus_per_worker: 2}\nsearch:", 7, "resources.gpus_per_worker",
         "less than or equal to 1"),
        ("  trials: 2", "  trials: 2\n  first: [{target.epochs: 3}]", 9,
         "search.first.0.target.epochs", "is not searched over"),
        ("  trials: 2", "  trials: 2\n  sampler: grid\nevaluate: {examples: {float: [1, 2]}}", 10,
         "evaluate.examples", "cannot be listed"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_place_and_remedy(
    sweep_from: ReadSweep, old: str, new: str, line: int, key: str, says: str
) -> None:
    assert old in SOUND
    with pytest.raises(SpecErrors) as caught:
        sweep_from(SOUND.replace(old, new))
    problems = {problem.key: problem for problem in caught.value.problems}
    assert key in problems
    assert problems[key].line == line
    assert problems[key].file == "f.yaml"
    assert says in str(problems[key])
    assert not re.search(r"[.;] [A-Z]|[.]$", str(problems[key])), "one sentence, in lower case"


def test_the_sound_file_is_sound(sweep_from: ReadSweep) -> None:
    assert sweep_from(SOUND).name == "t"


def test_all_problems_are_reported_at_once(sweep_from: ReadSweep) -> None:
    text = """
name: a b
data: {source: toy}
model: {choice: [toy:2x64, {nam: x}]}
target: {task: nli, epochs: {choice: [1, 0]}, hybrid: {ratio: 3}}
serch: {trials: 1}
"""
    with pytest.raises(SpecErrors) as caught:
        sweep_from(text)
    places = {(problem.key, problem.line) for problem in caught.value.problems}
    assert places >= {
        ("name", 2),
        ("model.nam", 4),
        ("target.epochs", 5),
        ("target.hybrid.ratio", 5),
        ("serch", 6),
        ("search", None),
    }
    assert str(caught.value).count("\n") == len(caught.value.problems) - 1


def test_malformed_distributions_do_not_hide_other_mistakes(sweep_from: ReadSweep) -> None:
    with pytest.raises(SpecErrors) as caught:
        sweep_from(SOUND.replace("trials: 2", "trials: 0").replace("nli", "{choice: []}"))
    assert {problem.key for problem in caught.value.problems} == {
        "target.task.choice",
        "search.trials",
    }


def test_a_mistake_in_an_override_stands_on_the_command_line(sweep_from: ReadSweep) -> None:
    with pytest.raises(SpecErrors, match=r"^command line: target\.size: 'many'"):
        sweep_from(SOUND, "target.size=many")


def test_a_mistake_in_one_option_alone_is_found(sweep_from: ReadSweep) -> None:
    option = "  fusion: {choice: [{method: none}, {method: dlfa, layer: {choice: [1, x]}}]}\n"
    with pytest.raises(SpecErrors, match=r"target\.fusion\.layer: 'x'"):
        sweep_from(SOUND.replace("  task: nli\n", "  task: nli\n" + option))
