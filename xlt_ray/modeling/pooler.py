"""The pooler that BERT and its nearest kin were pre-trained with: dense, tanh, on the first piece.

Their classes for sequences in transformers go on from it, so heads for whole sequences begin with
its weights where a checkpoint has them. It is no part of the encoder that is trained (there it
would learn nothing under most heads): it is kept beside it, and written with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from xlt_ray.modeling.heads.pair_head import PairHead

FAMILIES = frozenset({"albert", "bert", "ernie", "megatron-bert", "rembert"})
"""Model types whose classes for sequences read the pooler of their encoder. XLM-R's and RoBERTa's
checkpoints may have one, too, and their classes leave it out."""
PREFIX = "pooler."
_KEPT = "pretrained_pooler"


def set_pooler_aside(encoder: PreTrainedModel, *, is_trained: bool) -> None:
    """Take the pooler out of an encoder that was loaded with one, and remember it if it was in the
    checkpoint."""
    if is_trained:
        # Past the registration of modules: no parameter of it belongs to the encoder any more.
        object.__setattr__(encoder, _KEPT, encoder.pooler)
    encoder.pooler = None


def begin_with_pooler(head: nn.Module, encoder: PreTrainedModel) -> None:
    """Give a new head the weights of the encoder's pooler, if both have such a layer."""
    dense = _dense_of(encoder)
    if dense is not None and isinstance(head, PairHead):
        head.dense.load_state_dict(dense.state_dict())


def leave_pooler(head: nn.Module, encoder: PreTrainedModel) -> None:
    """The reverse, after a training: what goes on from the encoder begins with what was learned."""
    dense = _dense_of(encoder)
    if dense is not None and isinstance(head, PairHead):
        dense.load_state_dict(head.dense.state_dict())


@contextmanager
def with_pooler(encoder: PreTrainedModel) -> Iterator[None]:
    """The encoder with its pooler in place, if it has one, to be written."""
    kept = getattr(encoder, _KEPT, None)
    if kept is None:
        yield
        return
    encoder.pooler = kept
    try:
        yield
    finally:
        encoder.pooler = None


def _dense_of(encoder: PreTrainedModel) -> nn.Linear | None:
    kept: Any = getattr(encoder, _KEPT, None)
    layers = (
        []
        if kept is None
        else [module for module in kept.modules() if isinstance(module, nn.Linear)]
    )
    return layers[0] if layers else None
