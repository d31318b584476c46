"""A sweep over two models, a rate and a layer, which nobody has to train."""

from __future__ import annotations

from collections.abc import Mapping

SPACE = """
name: t
data: {source: toy}
model: {choice: [toy:2x64, toy:4x64]}
target:
  task: nli
  source_language: qaa
  learning_rate: {float: [1e-5, 1e-3], log: true}
  fusion:
    choice:
      - {method: none}
      - {method: dlfa, layer: {int: [0, num_layers - 1]}}
"""
"""All of the sweep but its ``search``."""
GRID = ("search={trials: 99, sampler: grid}", "target.learning_rate=1e-4")


def bounds(model: str) -> Mapping[str, int]:
    """What ranges in ``SPACE`` may name, of a toy model."""
    return {"num_layers": int(model[4]), "hidden_size": 64}
