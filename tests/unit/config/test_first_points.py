"""Points to try first: a block as it stands in the file, and nothing is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.two_models import bounds
from xlt_ray.config.checks.check_sweep import check
from xlt_ray.config.facts import Facts
from xlt_ray.config.sweep import SweepSpec, point_problems
from xlt_ray.errors import SpecErrors
from xlt_ray.ledger import rehearsal

TEXT = """
name: t
data: {source: toy}
model: {choice: [toy:2x64, toy:4x64]}
align: {choice: [null, {objective: tlm, steps: {choice: [10, 20]}}]}
target:
  task: nli
  source_language: qaa
  epochs: 3
  size: {int: [100, 900], step: 100}
  learning_rate: {float: [1e-5, 1e-3], log: true}
  hybrid: {ratio: 0.0, batch_scale: {choice: [1.0]}}
  fusion:
    choice:
      - {method: none}
      - {method: dlfa, layer: {int: [0, num_layers - 1]}}
      - {method: dlfa, layer: {int: [0, 1]}, reduction: 4}
search:
  trials: 40
  sampler: tpe
  first:
    - POINT
"""
DLFA = {"method": "dlfa", "layer": {"int": [0, "num_layers - 1"], "log": False, "step": 1}}
ReadSweep = Callable[..., SweepSpec]


@pytest.fixture
def asked(sweep_from: ReadSweep, facts: Facts) -> Callable[..., dict[str, Any]]:
    """``asked(point)``: the assignment that is asked first; raises what a user would see."""

    def ask(point: str, *overrides: str) -> dict[str, Any]:
        sweep = sweep_from(TEXT.replace("POINT", point), *overrides)
        problems = check(sweep, facts)
        if problems:
            raise SpecErrors(problems)
        asked_trial = rehearsal(sweep).ask(sweep, facts.model_bounds)
        assert asked_trial is not None
        return dict(asked_trial.assignment)

    return ask


Ask = Callable[..., dict[str, Any]]
NO_ALIGN = ("align=null", "target.fusion={choice: [{method: none}, {method: dlfa, "
            "layer: {int: [0, num_layers - 1]}}]}")  # fmt: skip


@pytest.mark.parametrize(
    "point",
    [
        "{model: toy:4x64, target.fusion: {method: dlfa, layer: 3}}",
        "{model: toy:4x64, target: {fusion: {method: dlfa, layer: 3}}}",
        "{model: toy:4x64, target.fusion: {method: dlfa}, target.fusion.layer: 3}",
        json.dumps({"model": "toy:4x64", "target.fusion": json.dumps(DLFA, sort_keys=True),
                    "target.fusion.layer": 3}),
    ],
)  # fmt: skip
def test_a_block_is_named_as_it_stands_in_the_file(asked: Ask, point: str) -> None:
    assignment = asked(point, *NO_ALIGN)
    assert assignment["model"] == "toy:4x64"
    assert json.loads(assignment["target.fusion"]) == DLFA
    assert assignment["target.fusion.layer"] == 3


def test_what_a_block_leaves_out_is_drawn(asked: Ask) -> None:
    assignment = asked("{target.fusion: {method: dlfa}, align: {objective: tlm}}", *NO_ALIGN[1:])
    assert assignment["target.fusion.layer"] in range(4)
    assert assignment["align.steps"] in (10, 20)


def test_a_key_of_a_block_that_is_fixed_needs_no_block(asked: Ask) -> None:
    fusion = "target.fusion={method: dlfa, layer: {int: [0, 1]}}"
    assert asked("{target.fusion.layer: 1}", fusion)["target.fusion.layer"] == 1
    assert asked("{target.fusion: {method: dlfa, layer: 1}}", fusion)["target.fusion.layer"] == 1


def test_nothing_may_be_an_option_and_whole_numbers_stand_for_real_ones(asked: Ask) -> None:
    rate = "target.learning_rate={float: [0.5, 1.5]}"
    assignment = asked("{align: null, target.learning_rate: 1}", rate)
    assert (assignment["align"], assignment["target.learning_rate"]) == (None, 1.0)
    assert isinstance(assignment["target.learning_rate"], float)


@pytest.mark.parametrize(
    ("point", "key", "says"),
    [
        # What no option reaches, and what some options do not reach.
        ("{target.fusion.layer: 1}", "target.fusion.layer",
         "not every option of target.fusion has it; name the block, as in target.fusion: "
         "{method: dlfa, layer: 1}"),
        ("{align.steps: 10}", "align.steps", "name the block, as in align: {objective: tlm, steps"),
        ("{align: null, align.steps: 10}", "align.steps", "not every option of align has it"),
        ("{target.fusion: {method: none}, target.fusion.layer: 1}", "target.fusion.layer",
         "not every option of target.fusion has it"),
        ("{target.fusion: {method: none, layer: 1}}", "target.fusion",
         "{method: none, layer: 1} is not in the space of target.fusion; available: {method"),
        ("{target.fusion: {method: mix}}", "target.fusion", "is not in the space of target.fusion"),
        ("{target.fusion: dlfa}", "target.fusion", "available: {method: none}, {method: dlfa"),
        ("{target.fusion: {method: dlfa, layer: 1}}", "target.fusion", "name more of its keys"),
        # Keys that are not there, or not searched over.
        ("{target.learning_rte: 1e-4}", "target.learning_rte", "did you mean target.learning_rate"),
        ("{target: {learning_rte: 1e-4}}", "target.learning_rte", "did you mean learning_rate?"),
        ("{target.warmup: 0.1}", "target.warmup", "is not searched over in this sweep"),
        ("{target.epochs: 2}", "target.epochs", "is fixed at 3 in this sweep, and not 2"),
        ("{target.epochs: 3}", "target.epochs", "is fixed at 3 in this sweep; leave it out"),
        ("{target.hybrid: {ratio: 0.5}}", "target.hybrid.ratio", "is fixed at 0.0"),
        ("{target.hybrid: {ratio: 0.0}}", "target.hybrid", "is fixed at {ratio: 0.0"),
        # Values out of range.
        ("{target.size: 150}", "target.size", "from 100 to 900 in steps of 100"),
        ("{target.size: 1000}", "target.size", "1000 is not in the space of target.size"),
        ("{target.size: true}", "target.size", "True is not in the space"),
        ("{target.size: 100.5}", "target.size", "100.5 is not in the space"),
        ("{target.size: {a: 1}}", "target.size", "give a number"),
        ("{target.learning_rate: 1}", "target.learning_rate", "from 1e-05 to 0.001"),
        ("{target.learning_rate: x}", "target.learning_rate", "'x' is not in the space"),
        ("{model: toy:3x64}", "model", "available: toy:2x64, toy:4x64"),
        ("{target.size: 200, target: {size: 300}}", "target", "is given two values, 200 and 300"),
    ],
)  # fmt: skip
def test_what_cannot_be_placed_is_refused_with_its_place_and_a_remedy(
    asked: Ask, point: str, key: str, says: str
) -> None:
    with pytest.raises(SpecErrors) as caught:
        asked(point)
    problems = {problem.key: problem for problem in caught.value.problems}
    assert f"search.first.0.{key}" in problems, problems
    error = problems[f"search.first.0.{key}"]
    assert (error.file, error.line) == ("f.yaml", 22)
    assert says in str(error)
    assert error.remedy


def test_a_layer_that_one_of_the_models_lacks_needs_the_model(asked: Ask) -> None:
    block = "target.fusion: {method: dlfa, layer: 3}"
    assert asked(f"{{model: toy:4x64, {block}}}", *NO_ALIGN)["target.fusion.layer"] == 3
    for point, remedy in (
        (f"{{{block}}}", "or name a model for which it is"),
        (f"{{model: toy:2x64, {block}}}", "from 0 to 1"),
    ):
        with pytest.raises(SpecErrors, match=r"is not in the space of .* for toy:2x64") as caught:
            asked(point, *NO_ALIGN)
        assert remedy in str(caught.value)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_a_sweep_can_draw_can_be_asked_first(
    sweep_from: ReadSweep, data: st.DataObject
) -> None:
    """A point of some of the keys of a drawn assignment is refused, or asked as it is."""
    sweep = sweep_from(TEXT.replace("POINT", "{}"), f"search.seed={data.draw(st.integers(0, 999))}")
    asked_trial = rehearsal(sweep).ask(sweep, bounds)
    assert asked_trial is not None
    keys = data.draw(st.sets(st.sampled_from(sorted(asked_trial.assignment))))
    point = {key: asked_trial.assignment[key] for key in sorted(keys)}
    try:
        again = sweep_from(TEXT.replace("POINT", "{}"), f"search.first={json.dumps([point])}")
        problems = point_problems(again, bounds)
        if problems:
            raise SpecErrors(problems)
    except SpecErrors:
        needed = {"target.fusion.layer": "target.fusion", "align.steps": "align"}
        assert any(key in keys and block not in keys for key, block in needed.items()) or (
            "model" not in keys and asked_trial.assignment["target.fusion.layer"] > 1  # type: ignore[operator]
        )
        return
    first = rehearsal(again).ask(again, bounds)
    assert first is not None
    assert first.assignment.items() >= point.items()
