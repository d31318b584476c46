"""Parameters that have no effect on a loss, so that rounding alone gives them a gradient.

What is added to all logits of a softmax alike changes nothing: a query meets the bias of the keys
at every place; the bias of the head is added to every option of a choice and to every place of a
span, and so is what the last layer adds to all of its states before a linear head over places. A
factor of vectors that are made one long changes nothing either. Their gradient is zero in exact
arithmetic; in floats it depends on the processor, and Adam makes steps of it as of any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

OF_EVERY_KIND = r"attention\.self\.key\.bias"
OF_ITS_KIND = {
    "choice": r"head\.output\.bias",
    "span": r"head\.output\.bias|layer\.1\.output\.LayerNorm\.bias",
    "ranking": r"fusion\.gamma",
}
"""Of encoders of two layers, as toy:2x32."""


def cannot_learn(name: str, kind: str = "pair") -> bool:
    """Whether the loss of this kind does not depend on a parameter, by its name."""
    pattern = "|".join([OF_EVERY_KIND, *([OF_ITS_KIND[kind]] if kind in OF_ITS_KIND else [])])
    return re.search(pattern, name) is not None


def assert_trained_alike(
    weights: Mapping[str, Tensor], others: Mapping[str, Tensor], kind: str = "pair", *, atol: float
) -> None:
    """Two trainings differ by rounding alone, but for what rounding alone has moved."""
    assert weights.keys() == others.keys()
    for name in weights:
        if not cannot_learn(name, kind):
            torch.testing.assert_close(
                weights[name], others[name], rtol=0, atol=atol,
                msg=lambda text, name=name: f"{name}: {text}",
            )  # fmt: skip
