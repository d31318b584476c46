"""Masked language modelling: what most alignment objectives train.

With M the positions to be predicted and x the pieces there before they were hidden::

    L = - sum over i in M of log p(x_i | H_i)

H are the last layer's states, p BERT's head for masked pieces tied to the word embeddings
(arXiv 1810.04805, section 3.1; :class:`xlt_ray.modeling.network.MaskedLm`).
"""

from __future__ import annotations

from transformers import PreTrainedModel

from xlt_ray.config.methods import Alignment
from xlt_ray.modeling.network import MaskedLm, build_masked_lm


def masked_lm(
    encoder: PreTrainedModel,
    settings: Alignment,  # noqa: ARG001 (objectives are built alike)
    seed: int,
) -> MaskedLm:
    """A new head on ``encoder``; nothing of it is a setting."""
    return build_masked_lm(encoder, seed)
