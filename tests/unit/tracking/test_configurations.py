"""What a configuration's run shows follows from its trials, in the order of the report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from xlt_ray.tracking.configurations import Configurations, Member, metrics_of, status_of, tags_of


def member(
    repeat: int,
    state: str = "complete",
    metrics: Mapping[str, float] | None = None,
    cause: str = "",
) -> Member:
    stages = {"xlt.stage.align": "shared", "xlt.stage.target": f"own {repeat}"}
    return Member(10 + repeat, repeat, repeat, state, cause, metrics or {}, stages)


def test_scores_are_means_over_complete_seeds_and_costs_are_sums_over_all() -> None:
    found = metrics_of(
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
    found = metrics_of([member(0, metrics=whole), member(1, metrics={"objective": 0.7})])
    assert "test/f1/de" not in found
    assert "sd/objective" not in metrics_of([member(0, metrics=whole)])


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
    assert status_of(members, 2, going) == status


def test_tags_name_causes_seeds_and_the_stages_that_seeds_share() -> None:
    members = [member(0), member(1, "failed", cause="nan"), member(2, "failed", cause="nan")]
    tags = tags_of(members)
    assert tags["xlt.seeds"] == "0"
    assert tags["xlt.trials"] == "10 11 12"
    assert tags["xlt.cause"] == "nan"
    assert tags["xlt.stage.align"] == "shared"
    # Empty stands for a tag that is to be taken away.
    assert tags["xlt.stage.target"] == ""
    assert "| 11 | 1 | failed | – |" in tags["mlflow.note.content"]
    assert "Its seeds share one training of align: sd/" in tags["mlflow.note.content"]
    apart = [replace(member, stages={"xlt.stage.align": str(member.seed)}) for member in members]
    assert "share" not in tags_of(apart)["mlflow.note.content"]
    assert "share" not in tags_of(members[:1])["mlflow.note.content"]


class Listed:
    """As much of an experiment as configurations ask for; counts the runs that were read."""

    name = "t"

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.num_read = 0

    def search(self, kind: str, tags: Mapping[str, str] | None = None) -> list[Any]:
        wanted = (tags or {}).items()
        found = [run for run in self.runs if wanted <= run.data.tags.items()]
        self.num_read += len(found)
        return found

    def run(self, run_id: str | None) -> Any:
        return next((run for run in self.runs if run.info.run_id == run_id), None)

    def create(self, name: str, tags: Mapping[str, str], start: int) -> Any:
        self.runs.append(
            SimpleNamespace(info=SimpleNamespace(run_id=name), data=SimpleNamespace(tags={**tags}))
        )
        return self.runs[-1]


def test_a_new_configuration_costs_no_look_at_all_the_others() -> None:
    there = Listed()
    Configurations(there).make(0, "parent", {}, 0)  # type: ignore[arg-type]
    configurations = Configurations(there)  # type: ignore[arg-type]
    for number in range(1, 30):
        assert configurations.find(number) is None
        configurations.make(number, "parent", {}, 0)
        assert configurations.find(number) is not None
    assert there.num_read == 1
    assert configurations.find(0) is there.runs[0], "that of an earlier driver"
