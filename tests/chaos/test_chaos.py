"""A short set of the chaos rounds; ``make chaos`` runs as many as are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import rounds


@pytest.mark.long
def test_a_sweep_that_was_hit_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    kinds = ("driver", "raylet")
    for kind, delay_s, verdict in rounds(tmp_path, kinds, len(kinds), seed=3):
        assert verdict.is_right, (kind, delay_s, verdict)
