"""The search space: draws, probes, grids, and how distributions are written."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_ray.config.search_space import (
    Assignment,
    Choice,
    FloatRange,
    IntRange,
    SearchParameter,
    Space,
    Value,
    draw,
    extremes,
    grid,
    num_configurations,
    plain,
    probes,
    split_space,
)
from xlt_ray.config.yaml import Document, parse_document
from xlt_ray.errors import SpecErrors

KEYS = ("model", "target")
DEPTHS = {"small": 4, "large": 12}


def bounds(name: str) -> dict[str, int]:
    return {"num_layers": DEPTHS.get(name, 6), "hidden_size": 64}


def space_of(tree: dict[str, Any]) -> Space:
    return split_space(Document("f.yaml", tree, {}), KEYS)


def space_from(text: str) -> Space:
    return split_space(parse_document(text, "f.yaml"), KEYS)


def at_random(seed: int) -> Any:
    source = random.Random(seed)

    def pick(parameter: SearchParameter) -> Value:
        distribution = parameter.distribution
        if isinstance(distribution, Choice):
            return source.choice(distribution.labels())
        if isinstance(distribution, IntRange):
            return source.choice(distribution.values())
        return source.uniform(distribution.low, distribution.high)

    return pick


scalars = st.one_of(st.none(), st.text("abc", max_size=2), st.integers(-5, 5))
int_ranges = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3)).map(
    lambda drawn: {"int": [drawn[0], drawn[0] + drawn[1]], "step": drawn[2]}
)


def choices(options: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(
        options, min_size=1, max_size=3, unique_by=lambda option: json.dumps(option, sort_keys=True)
    ).map(lambda found: {"choice": found})


def blocks(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=2)


leaves = st.one_of(scalars, int_ranges, choices(scalars))
nested = st.one_of(leaves, choices(blocks(leaves)), blocks(leaves))
any_space = st.fixed_dictionaries(
    {
        "model": choices(st.sampled_from(["small", "large"])),
        "target": st.dictionaries(st.sampled_from(["k", "l", "m"]), nested, max_size=2),
    }
)
layers = st.just({"int": [0, "num_layers - 1"]})
conditional_space = st.fixed_dictionaries(
    {
        "model": st.just({"choice": ["small", "large"]}),
        "target": st.fixed_dictionaries(
            {
                "k": choices(blocks(st.one_of(layers, choices(scalars)))),
                "m": st.one_of(choices(scalars), choices(blocks(int_ranges))),
            }
        ),
    }
)
spaces = st.one_of(any_space, conditional_space).map(space_of)


def extreme_assignments(space: Space) -> list[Assignment]:
    """Every combination of extreme values, listed one by one."""
    assignments: list[Assignment] = []

    def below(fixed: Assignment) -> None:
        free: list[SearchParameter] = []

        def pick(parameter: SearchParameter) -> Value:
            if parameter.path in fixed:
                return fixed[parameter.path]
            free.append(parameter)
            return extremes(parameter.distribution)[0]

        _, assignment = draw(space, pick, bounds)
        if not free:
            assignments.append(assignment)
            return
        for value in dict.fromkeys(extremes(free[0].distribution)):
            below({**fixed, free[0].path: value})

    below({})
    return assignments


@given(spaces, st.integers(0, 1000))
def test_a_draw_is_concrete_and_is_drawn_again_from_its_assignment(space: Space, seed: int) -> None:
    tree, assignment = draw(space, at_random(seed), bounds)
    again, same = draw(space, lambda parameter: assignment[parameter.path], bounds)
    assert (again, same) == (tree, assignment)
    json.dumps(tree)


@given(st.integers(-9, 9), st.integers(0, 9), st.integers(1, 4), st.integers(0, 99))
def test_values_stay_in_their_range(low: int, width: int, step: int, seed: int) -> None:
    space = space_of({"target": {"n": {"int": [low, low + width], "step": step},
                                 "x": {"float": [low, low + width]}}})  # fmt: skip
    tree, _ = draw(space, at_random(seed))
    assert low <= tree["target"]["n"] <= low + width
    assert (tree["target"]["n"] - low) % step == 0
    assert low <= tree["target"]["x"] <= low + width


@given(spaces)
def test_probes_cover_every_extreme_value_and_every_pair(space: Space) -> None:
    probed = [set(assignment.items()) for _, assignment in probes(space, bounds)]
    wanted = {
        pair
        for assignment in extreme_assignments(space)
        for pair in itertools.combinations_with_replacement(sorted(assignment.items(), key=repr), 2)
    }
    covered = {
        pair
        for assignment in probed
        for pair in itertools.combinations_with_replacement(sorted(assignment, key=repr), 2)
    }
    assert wanted <= covered


def test_probes_end_at_their_limit_and_try_single_values_first() -> None:
    space = space_of({"target": {f"k{index}": {"choice": [0, 1, 2]} for index in range(9)}})
    first = [assignment for _, assignment in probes(space, limit=1 + 9 * 3)]
    assert len(first) == 1 + 9 * 3
    for index in range(9):
        assert {assignment[f"target.k{index}"] for assignment in first} == {0, 1, 2}


@given(spaces)
def test_a_grid_lists_every_assignment_exactly_once(space: Space) -> None:
    listed = [tuple(sorted(assignment.items(), key=repr)) for assignment in grid(space, bounds)]
    assert len(listed) == len(set(listed))
    for seed in range(20):
        _, assignment = draw(space, at_random(seed), bounds)
        assert tuple(sorted(assignment.items(), key=repr)) in listed


def test_a_grid_turns_its_last_parameter_fastest() -> None:
    space = space_from("target: {a: {choice: [x, y]}, b: {int: [1, 3]}}")
    assert list(grid(space)) == [
        {"target.a": a, "target.b": b} for a in ("x", "y") for b in (1, 2, 3)
    ]


def test_a_grid_cannot_list_real_numbers() -> None:
    space = space_from("target: {rate: {float: [0, 1]}}")
    with pytest.raises(Exception, match=r"target\.rate: a range of real numbers cannot be listed"):
        list(grid(space))


CONDITIONAL = """
model: {choice: [small, large]}
target:
  fusion:
    choice:
      - {method: none}
      - {method: dlfa, layer: {int: [0, num_layers - 1]}}
  ratio: {choice: [0.0, 0.5]}
"""


def test_a_block_brings_its_parameters_and_no_other_block_has_them() -> None:
    space = space_from(CONDITIONAL)
    for _, assignment in probes(space, bounds):
        assert ("target.fusion.layer" in assignment) == ("dlfa" in str(assignment["target.fusion"]))


def test_bounds_follow_the_chosen_model() -> None:
    highest: dict[Value, Any] = {"small": 0, "large": 0}
    for tree, assignment in probes(space_from(CONDITIONAL), bounds):
        layer = tree["target"]["fusion"].get("layer", 0)
        highest[assignment["model"]] = max(highest[assignment["model"]], layer)
    assert highest == {"small": 3, "large": 11}


def test_bounds_follow_the_layers_that_are_kept() -> None:
    space = space_from(
        CONDITIONAL.replace("{choice: [small, large]}", "{name: large, layers: {int: [2, 3]}}")
    )
    drawn = list(grid(space, bounds))
    layers = {2: range(2), 3: range(3)}
    assert {
        (assignment["model.layers"], assignment["target.fusion.layer"])
        for assignment in drawn
        if "target.fusion.layer" in assignment
    } == {(kept, layer) for kept in layers for layer in layers[kept]}
    assert num_configurations(space, bounds) == len(drawn) == 2 * (1 + 2) + 2 * (1 + 3)


def test_ranges_of_two_models_are_two_parameters_of_the_sampler() -> None:
    names: set[str] = set()

    def pick(parameter: SearchParameter) -> Value:
        names.add(parameter.name)
        return assignment[parameter.path]

    space = space_from(CONDITIONAL)
    for _, assignment in probes(space, bounds):  # noqa: B007
        draw(space, pick, bounds)
    assert names == {
        "model",
        "target.fusion",
        "target.ratio",
        "target.fusion.layer in 0..3",
        "target.fusion.layer in 0..11",
    }


def test_one_path_with_two_distributions_is_two_parameters() -> None:
    space = space_from(
        "target: {align: {choice: [{kind: a, steps: {choice: [1, 2]}},"
        " {kind: b, steps: {choice: [3, 4]}}, {kind: c, steps: {float: [1, 2], log: true}}]}}"
    )
    names = set()
    for _, assignment in probes(space):
        draw(
            space,
            lambda parameter, of=assignment: (names.add(parameter.name), of[parameter.path])[1],
        )
    assert names == {
        "target.align",
        "target.align.steps in [1, 2]",
        "target.align.steps in [3, 4]",
        "target.align.steps in 1.0..2.0 log",
    }


def test_a_pair_behind_a_block_and_a_model_is_probed() -> None:
    wanted = {("model", "small"), ("target.fusion.layer", 3), ("target.ratio", 0.5)}
    assert any(
        wanted <= set(assignment.items())
        for _, assignment in probes(space_from(CONDITIONAL), bounds)
    )


def test_a_step_never_leads_beyond_its_range() -> None:
    seen: list[SearchParameter] = []

    def pick(parameter: SearchParameter) -> Value:
        seen.append(parameter)
        return extremes(parameter.distribution)[-1]

    tree, _ = draw(space_from("target: {n: {int: [1, 10], step: 4}}"), pick)
    assert tree["target"]["n"] == 9


@given(spaces)
def test_what_is_kept_beside_the_ledger_is_read_back_alike(space: Space) -> None:
    text = json.dumps(plain(space.tree))
    again = split_space(parse_document(text, "f.json"), KEYS)
    assert plain(again.tree) == plain(space.tree)
    assert list(probes(again, bounds, limit=20)) == list(probes(space, bounds, limit=20))


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("target: {a: {choice: []}}", "target.a.choice", "needs a list"),
        ("target: {a: {choice: x}}", "target.a.choice", "needs a list"),
        ("target: {a: {choice: [x, y, x]}}", "target.a.choice", "'x' stands twice"),
        ("target: {a: {choice: [1, 1.0]}}", "target.a.choice", "1.0 is the same as 1"),
        ("target: {a: {choice: [{b: 1}, {b: 1}]}}", "target.a.choice", "stands twice"),
        ("target: {a: {choice: [1], log: true}}", "target.a.log", "cannot be combined with"),
        ("target: {a: {choice: [1, {int: [1, 2]}]}}", "target.a.choice.1", "distribution itself"),
        ("target: {a: {int: [1]}}", "target.a.int", "two bounds"),
        ("target: {a: {int: [2, 1]}}", "target.a.int", "is empty"),
        ("target: {a: {int: [0, 5], log: true}}", "target.a.int", "above 0"),
        ("target: {a: {int: [1, 2.5]}}", "target.a.int", "neither a whole number"),
        ("target: {a: {int: [1, 2 * x]}}", "target.a.int", "neither a whole number"),
        ("target: {a: {int: [1, 5], step: 0}}", "target.a.step", "positive whole number"),
        ("target: {a: {int: [1, 5], step: 2, log: true}}", "target.a.step", "exclude"),
        ("target: {a: {int: [1, 5], log: 1}}", "target.a.log", "not true or false"),
        ("target: {a: {float: [1, x]}}", "target.a.float", "not a number"),
        ("target: {a: {float: [1, .inf]}}", "target.a.float", "not a number"),
        ("target: {a: {float: [.nan, 1]}}", "target.a.float", "not a number"),
        ("target: {a: {float: [0, 1], step: 1}}", "target.a.step", "cannot be combined with"),
        ("target: {a: {float: [0, 1], int: [0, 1]}}", "target.a.float", "cannot be combined with"),
        ("search: {trials: {choice: [1, 2]}}", "search.trials", "cannot be searched"),
    ],
)
def test_a_malformed_distribution_is_refused(text: str, key: str, problem: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        space_from(text)
    (error,) = caught.value.problems
    assert (error.key, error.line) == (key, 1)
    assert problem in error.problem


def test_all_malformed_distributions_are_refused_at_once() -> None:
    with pytest.raises(SpecErrors) as caught:
        space_from("target: {a: {choice: []}, b: {choice: [{c: {int: [2, 1]}}]}}\nx: {int: [1, 2]}")
    assert {problem.key for problem in caught.value.problems} == {
        "target.a.choice",
        "target.b.choice.0.c.int",
        "x",
    }


def test_a_bound_that_is_no_fact_of_the_model_says_what_is() -> None:
    space = space_from("model: small\ntarget: {layer: {int: [0, num_heads]}}")
    with pytest.raises(Exception, match=r"'num_heads'.*hidden_size, num_layers"):
        list(probes(space, bounds))


def test_both_ends_of_a_range_are_extreme() -> None:
    assert extremes(FloatRange(0.1, 0.9)) == (0.1, 0.9)
    assert extremes(IntRange(2, 8)) == (2, 8)
    assert extremes(Choice((None, {"b": 1}))) == (None, '{"b": 1}')
