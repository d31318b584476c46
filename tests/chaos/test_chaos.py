"""A short set of the chaos rounds; ``make chaos`` runs as many as are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.blows import BLOWS
from tests.chaos.harness import rounds

SHORT = ("one of two nodes killed",)


@pytest.mark.slow
def test_a_sweep_that_was_hit_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    blows = [one for one in BLOWS if one.name in SHORT]
    for blow, moment, verdict in rounds(tmp_path, blows, len(blows), seed=3):
        assert verdict.is_right, (blow.name, moment, verdict)
