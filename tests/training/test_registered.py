"""An exported model that is kept beside the sweep's MLflow run, and registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Xlt
from tests.training.test_export import home, made  # noqa: F401
from xlt_ray.home import Home
from xlt_ray.ledger import load_ledger
from xlt_ray.store.store import StageStore
from xlt_ray.tracking import LedgerSnapshot, Tracker


@pytest.mark.long
def test_an_export_is_kept_and_registered_where_the_sweep_is_tracked(
    made: Home,  # noqa: F811
    xlt: Xlt,
    tmp_path: Path,
) -> None:
    code, _, err = xlt("export", "tiny", tmp_path / "early", "--log")
    assert code == 2
    assert "has no run of the sweep tiny" in err
    assert not (tmp_path / "early").exists(), "nothing is written before that is known"

    tracker = Tracker(made, "tiny")
    ledger = LedgerSnapshot.of(load_ledger(made, "tiny"))
    tracker.project(ledger, StageStore(made.stages))
    folder = tmp_path / "best"
    code, out, err = xlt("export", "tiny", folder, "--register", "pairs")
    assert code == 0, err
    assert "registered: models:/pairs/1" in out
    client = tracker.experiment.client
    (version,) = client.search_model_versions("name = 'pairs'")
    kept = Path(version.source)
    assert {file.name for file in kept.iterdir()} == {file.name for file in folder.iterdir()}
    assert version.tags["xlt.trial"] == "0"
    assert "the best of" in version.description
