"""What MLflow's tags say of a trial's stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from xlt_ray.config.sweep import SweepSpec
from xlt_ray.home import Home
from xlt_ray.ledger import StageUse, open_ledger
from xlt_ray.tracking.content import trial_tags

TEXT = """
name: t
data: {source: toy}
model: toy:2x64
target: {task: nli, source_language: qaa}
search: {trials: 1}
"""


TagsWith = Callable[[list[StageUse]], Mapping[str, str]]


@pytest.fixture
def tags_with(home: Home, sweep_from: Callable[..., SweepSpec]) -> TagsWith:
    """The tags of a trial whose path has these stages."""
    sweep = sweep_from(TEXT)
    ledger = open_ledger(home, sweep)
    ledger.ask(sweep, lambda _: {})

    def tags(uses: list[StageUse]) -> Mapping[str, str]:
        ledger.set_stages(0, uses)
        return trial_tags(ledger.trial(0), "running")

    return tags


def test_tags_name_the_makers_of_reused_stages(tags_with: TagsWith) -> None:
    uses = [
        StageUse("align", "a" * 64, "align", True, made_by="other/3"),
        StageUse("intermediate", "i" * 64, "intermediate", True),
        StageUse("target", "t" * 64, "target", False, 96, 1.0, "t/0"),
    ]
    tags = tags_with(uses)
    assert tags["xlt.reused"] == "align intermediate"
    assert tags["xlt.made_by.align"] == "other/3"
    # Empty stands for a tag that is to be taken away.
    assert tags["xlt.made_by.intermediate"] == tags["xlt.made_by.target"] == ""


def test_every_trunk_of_a_path_has_a_tag_of_its_own(tags_with: TagsWith) -> None:
    uses = [
        StageUse("trunk", "a" * 64, "trunk nli 2400", True, made_by="other/3"),
        StageUse("trunk", "b" * 64, "trunk nli 4800", True),
        StageUse("intermediate", "i" * 64, "intermediate nli 6000", False),
    ]
    tags = tags_with(uses)
    assert tags["xlt.stage.trunk.2400"] == "a" * 64
    assert tags["xlt.stage.trunk.4800"] == "b" * 64
    assert tags["xlt.made_by.trunk.2400"] == "other/3"
    assert tags["xlt.reused"] == "trunk"
