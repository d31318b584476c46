"""What a configuration's run shows follows from its trials, in the order of the report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xlt_ray.tracking.client import TrackedRun
from xlt_ray.tracking.content import (
    configuration_metrics,
    configuration_status,
    configuration_tags,
)


def member(
    repeat: int,
    state: str = "complete",
    metrics: Mapping[str, float] | None = None,
    cause: str = "",
    align: str = "shared",
) -> TrackedRun:
    """The run of one seed."""
    tags = {"xlt.trial": str(10 + repeat), "xlt.repeat": str(repeat), "xlt.seed": str(repeat)}
    tags |= {"xlt.state": state, "xlt.cause": cause}
    tags |= {"xlt.stage.align": align, "xlt.stage.target": f"own {repeat}"}
    run: Any = SimpleNamespace(tags=tags, metrics=metrics or {})
    return cast(TrackedRun, run)


def test_scores_are_means_over_complete_seeds_and_costs_are_sums_over_all() -> None:
    found = configuration_metrics(
        [
            member(0, metrics={"objective": 0.5, "test/f1/mean": 0.4, "seconds": 2, "dev/f1": 1}),
            member(1, metrics={"objective": 0.7, "test/f1/mean": 0.2, "seconds": 3, "dev/f1": 1}),
            member(2, "failed", {"seconds": 4, "objective": 9}),
        ]
    )
    assert found == {
        "objective": pytest.approx(0.6),
        "sd/objective": pytest.approx(statistics.stdev([0.5, 0.7])),
        "test/f1/mean": pytest.approx(0.3),
        "sd/test/f1/mean": pytest.approx(statistics.stdev([0.4, 0.2])),
        "seconds": 9,
        "seeds/complete": 2,
        "seeds/pruned": 0,
        "seeds/failed": 1,
    }


def test_a_metric_that_a_seed_lacks_has_no_mean() -> None:
    whole = {"objective": 0.5, "test/f1/de": 0.4}
    found = configuration_metrics([member(0, metrics=whole), member(1, metrics={"objective": 0.7})])
    assert "test/f1/de" not in found
    assert "sd/objective" not in configuration_metrics([member(0, metrics=whole)])


@pytest.mark.parametrize(
    ("states", "going", "status"),
    [
        (["complete"], "RUNNING", "RUNNING"),
        (["complete"], "KILLED", "KILLED"),
        # A budget has ended the sweep: nobody will run the second seed.
        (["complete"], "FINISHED", "FINISHED"),
        (["complete", "running"], "RUNNING", "RUNNING"),
        (["complete", "running"], "KILLED", "KILLED"),
        (["complete", "running"], "FINISHED", "KILLED"),
        (["complete", "pruned"], "RUNNING", "FINISHED"),
        (["complete", "failed"], "KILLED", "FAILED"),
        ([], "FINISHED", "FINISHED"),
    ],
)
def test_status_is_that_of_its_seeds(states: list[str], going: Any, status: str) -> None:
    members = [member(repeat, state) for repeat, state in enumerate(states)]
    assert configuration_status(members, 2, going) == status


def test_tags_name_causes_seeds_and_the_stages_that_seeds_share() -> None:
    members = [member(0), member(1, "failed", cause="nan"), member(2, "failed", cause="nan")]
    tags = configuration_tags(members)
    assert tags["xlt.seeds"] == "0"
    assert tags["xlt.trials"] == "10 11 12"
    assert tags["xlt.cause"] == "nan"
    assert tags["xlt.stage.align"] == "shared"
    # Empty stands for a tag that is to be taken away.
    assert tags["xlt.stage.target"] == ""
    assert "| 11 | 1 | failed | – |" in tags["mlflow.note.content"]
    assert "Its seeds share one training of align: sd/" in tags["mlflow.note.content"]
    apart = [member(repeat, align=str(repeat)) for repeat in range(3)]
    assert "share" not in configuration_tags(apart)["mlflow.note.content"]
    assert "share" not in configuration_tags(members[:1])["mlflow.note.content"]
