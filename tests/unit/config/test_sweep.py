"""A whole sweep: settings, trials of it, what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from xlt_ray.config.search_space import grid
from xlt_ray.config.sweep import SweepSpec, load_sweep, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import SpecErrors

TEXT = """
name: t
data: {source: toy}
model: {choice: [toy:2x64, toy:4x64]}
align: {choice: [null, {objective: tlm, steps: {int: [10, 100], log: true}}]}
target:
  task: nli
  source_language: qaa
  learning_rate: {float: [1e-5, 1e-3], log: true}
  fusion:
    choice:
      - {method: none}
      - {method: dlfa, layer: {int: [0, num_layers - 1]}}
evaluate: {languages: [qab, no]}
search: {trials: 4, sampler: random, first: [{target.learning_rate: 1e-4}]}
"""
ReadSweep = Callable[..., SweepSpec]


def test_an_assignment_becomes_a_concrete_trial(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(TEXT)
    dlfa = '{"layer": {"int": [0, "num_layers - 1"], "log": false, "step": 1}, "method": "dlfa"}'
    trial = sweep.trial_of(
        {
            "model": "toy:4x64",
            "align": None,
            "target.learning_rate": 3e-5,
            "target.fusion": dlfa,
            "target.fusion.layer": 2,
        },
        lambda _: {"num_layers": 4},
    )
    assert trial.model.name == "toy:4x64"
    assert trial.align is None
    assert trial.target.learning_rate == 3e-5
    assert trial.target.fusion.model_dump()["layer"] == 2
    assert trial.evaluate.languages == ("qab", "no")


def test_precision_is_asked_as_a_resource_and_part_of_the_trial(sweep_from: ReadSweep) -> None:
    sweep = sweep_from(
        TEXT,
        "resources={precision: bf16, zero_stage: 1}",
        "model=toy:2x64",
        "align=null",
        "target={task: nli}",
        "search.first=[]",
    )
    assert sweep.trial_of({}).precision == "bf16"


@pytest.mark.parametrize("languages", ["target", "all", "[qab]"])
def test_an_oracle_objective_scores_every_dev_set(sweep_from: ReadSweep, languages: str) -> None:
    fixed = ("model=toy:2x64", "align=null", "target={task: nli}", "search.first=[]")
    oracle = sweep_from(TEXT, *fixed, f"objective.languages={languages}")
    assert oracle.is_oracle
    assert oracle.trial_of({}).evaluate.dev == "all"
    honest = sweep_from(TEXT, *fixed)
    assert not honest.is_oracle
    assert honest.trial_of({}).evaluate.dev == "source"


@pytest.mark.parametrize("overrides", [(), ("progress.every=60",), ("progress.share=0.02",)])
def test_the_resolved_sweep_is_a_sweep_file_that_resolves_alike(
    sweep_from: ReadSweep, overrides: tuple[str, ...]
) -> None:
    kept = json.loads(json.dumps(sweep_from(TEXT, *overrides).resolved()))
    space = kept.pop("space")
    read = sweep_of(parse_document(json.dumps({**kept, **space}), "f.json"))
    assert json.loads(json.dumps(read.resolved())) == {**kept, "space": space}


def test_a_sweep_is_read_from_a_file_with_overrides(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(TEXT)
    assert load_sweep(file, ["search.trials=9"]).settings.search.trials == 9


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(TEXT.replace("trials: 4", "trials: x"))
    with pytest.raises(SpecErrors, match=rf"^{file}:15: search\.trials"):
        load_sweep(file)


@pytest.mark.parametrize("name", ["a", "a.b-c_d", "0x", "x" * 80])
def test_a_name_that_can_be_a_file_is_taken(sweep_from: ReadSweep, name: str) -> None:
    assert sweep_from(TEXT, f"name='{name}'").name == name


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "a b", "x" * 81, "-x", "é"])
def test_a_name_that_cannot_be_a_file_is_refused(sweep_from: ReadSweep, name: str) -> None:
    with pytest.raises(SpecErrors, match="a name consists of"):
        sweep_from(TEXT, f"name='{name}'")


def test_few_shots_are_searched_over_as_a_block(sweep_from: ReadSweep) -> None:
    shots = (
        "few_shot={choice: [null, {language: {choice: [qab, qac]}, shots: {choice: [5, 10, 50]}, "
        "sample: {choice: [0, 1]}}]}"
    )
    fixed = ("model=toy:2x64", "align=null", "target={task: nli}", "search.first=[]")
    sweep = sweep_from(TEXT, *fixed, shots)
    assert len(list(grid(sweep.space))) == 1 + 2 * 3 * 2
    assert sweep.has_few_shot
    assert not sweep_from(TEXT, *fixed, "few_shot=null").has_few_shot


def test_bounds_that_follow_the_model_are_accepted_before_the_model_is_known(
    sweep_from: ReadSweep,
) -> None:
    assert "num_layers" in str(sweep_from(TEXT).resolved()["space"])


def test_data_cannot_be_searched(sweep_from: ReadSweep) -> None:
    with pytest.raises(SpecErrors, match=r"data\.seed: cannot be searched over"):
        sweep_from(TEXT, "data.seed={choice: [1, 2]}")


@pytest.mark.parametrize(
    ("languages", "problem"),
    [("[]", "the list is empty"), ("[qab, qab]", "qab is named twice")],
)
def test_an_objective_counts_every_language_once(
    sweep_from: ReadSweep, languages: str, problem: str
) -> None:
    with pytest.raises(SpecErrors, match=rf"objective\.languages: .*{problem}"):
        sweep_from(TEXT, f"objective.languages={languages}")
