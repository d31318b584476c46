"""A table of word embeddings of which only the rows of a training's own pieces are trained.

Multilingual encoders have up to 250,000 pieces, and a training in one language shows a tenth of
them. The other rows have a gradient of zero, and without weight decay AdamW leaves them as they
are, so they need no gradient, no moments and no part in clipping, reduction and progress. The
weights of the whole training are the same, up to the rounding of the gradient norm, which is
summed over fewer zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

LARGEST_SHARE = 0.5
"""Share of a table's rows up to which they are trained alone."""
SCALE = "scalar_embed_scale"
"""Attribute of Gemma's tables: what their rows are multiplied by."""


class TrimmedEmbedding(nn.Module):
    """The rows ``trained`` and the ``rest`` of a table; in training only the former are read.

    Args:
        ids: the pieces whose rows are trained, ascending.
    """

    places: Tensor

    def __init__(self, table: nn.Embedding, ids: Tensor) -> None:
        super().__init__()
        num_rows, self.embedding_dim = table.weight.shape
        is_trained = torch.zeros(num_rows, dtype=torch.bool)
        is_trained[ids] = True
        # Row r of the rest has the place ~r, which is below 0.
        places = torch.where(is_trained, is_trained.cumsum(0) - 1, -(~is_trained).cumsum(0))
        self.register_buffer("places", places, persistent=False)
        weights = table.weight.detach()
        padding = -1 if table.padding_idx is None else int(places[table.padding_idx])
        self.trained = nn.Embedding.from_pretrained(
            weights[is_trained], freeze=False, padding_idx=padding if padding >= 0 else None
        )
        self.rest = nn.Embedding.from_pretrained(weights[~is_trained], freeze=True)
        self._scale = getattr(table, SCALE, None)

    def forward(self, ids: Tensor) -> Tensor:
        """As the table that it was made of; IndexError for a piece of the rest in training."""
        places = self.places[ids]
        states: Tensor
        if self.training:
            states = self.trained(places)
        else:
            trained, rest = self.trained(places.clamp(min=0)), self.rest((~places).clamp(min=0))
            states = torch.where((places >= 0).unsqueeze(-1), trained, rest)
        # As transformers does, which rounds the scale to the type of the weights.
        return states if self._scale is None else states * states.new_tensor(self._scale)

    def whole(self, trained: Tensor) -> Tensor:
        """(num_rows, width): the table with these weights in the trained rows."""
        is_trained = (self.places >= 0).to(trained.device)
        table = trained.new_empty((len(is_trained), self.embedding_dim))
        table[is_trained] = trained
        table[~is_trained] = self.rest.weight.detach().to(trained)
        return table


def trim_embedding(encoder: PreTrainedModel, ids: np.ndarray) -> None:
    """Train only the rows ``ids``, ascending, of the encoder's table of word embeddings.

    Nothing is changed if they are more than half of it, if the table is not trained or more than
    an ``nn.Embedding`` with a scale, or if its weights are those of another module as well.
    """
    table = encoder.get_input_embeddings()
    is_plain = type(table) is nn.Embedding or hasattr(table, SCALE)
    if not is_plain or len(ids) > LARGEST_SHARE * table.num_embeddings:
        return
    if not table.weight.requires_grad:
        return
    parameters = encoder.named_parameters(remove_duplicate=False)
    if sum(parameter is table.weight for _, parameter in parameters) == 1:
        encoder.set_input_embeddings(TrimmedEmbedding(table, torch.from_numpy(ids)))


@contextmanager
def whole_embedding(encoder: PreTrainedModel) -> Iterator[None]:
    """Within the block, the encoder has a plain table of word embeddings."""
    table: Any = encoder.get_input_embeddings()
    if not isinstance(table, TrimmedEmbedding):
        yield
        return
    whole = table.whole(table.trained.weight.detach())
    encoder.set_input_embeddings(nn.Embedding.from_pretrained(whole))
    try:
        yield
    finally:
        encoder.set_input_embeddings(table)


def with_whole_embeddings(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights by the names of ``network``'s parameters, with whole tables by their plain names."""
    whole = dict(weights)
    for name, module in network.named_modules():
        if isinstance(module, TrimmedEmbedding):
            whole[f"{name}.weight"] = module.whole(whole.pop(f"{name}.trained.weight"))
    return whole
