"""Names of runs: what differs between the configurations of a sweep, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from xlt_ray.config.labels import run_name


def choice(*options: Any) -> dict[str, Any]:
    return {"choice": [*options]}


@pytest.mark.parametrize(
    ("space", "assignment", "name"),
    [
        # One option alone, or a range of one number, is the same everywhere.
        ({"model": choice("a"), "target": {"epochs": {"int": [3, 3]}}},
         {"model": "a", "target.epochs": 3}, ""),
        # Paths that end alike, and words that two parameters share.
        ({"intermediate": {"task": choice("nli", "pos"), "size": choice(10, 20)},
          "target": {"task": choice("nli", "qa"), "size": choice(10, 20)}},
         {"intermediate.task": "nli", "intermediate.size": 10, "target.task": "qa",
          "target.size": 20},
         "intermediate.task=nli intermediate.size=10 qa target.size=20"),
        # A parameter that one option fixes and another one has otherwise.
        ({"target": {"robust": choice({"method": "a", "rate": choice(8)},
                                      {"method": "b", "rate": choice(16)})}},
         {"target.robust": '{"method": "b", "rate": {"choice": [16]}}', "target.robust.rate": 16},
         "b rate=16"),
        ({"target": {"fusion": {"method": choice("dlfa", "mean"), "layer": {"int": [1, 3]}}}},
         {"target.fusion.method": "dlfa", "target.fusion.layer": 2}, "dlfa@2"),
        ({"target": {"fusion": {"method": "dlfa", "layer": {"int": [1, 3]}}}},
         {"target.fusion.layer": 2}, "layer=2"),
        ({"model": choice("/here/a", "/there/a"), "target": {"flag": choice(True, False)}},
         {"model": "/here/a", "target.flag": True}, "/here/a flag=true"),
    ],
)  # fmt: skip
def test_names_have_what_differs(
    space: dict[str, Any], assignment: dict[str, Any], name: str
) -> None:
    assert run_name(assignment, space) == name
    assert run_name(assignment, space, 1) == f"{name} seed 1".strip()
