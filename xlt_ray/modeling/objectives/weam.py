"""WEAM: masked pieces predicted from their own states and from those of their translation.

A sentence and its translation are encoded together, masked, with last states H ``(length, hidden)``
of the joint row. With M the positions to be predicted, x the pieces there before they were hidden,
and A the swap of aligned words (:mod:`xlt_ray.data.batches.alignment_batches`), one head p::

    H' = A H
    L_own   = - sum over i in M of log p(x_i | H_i)        multilingual prediction
    L_cross = - sum over i in M of log p(x_i | H'_i)       cross-lingual prediction
    L = L_own + lambda * L_cross

A is of rows that sum to 1: a piece whose word is aligned gets the mean over the pieces of the
words that it is aligned with, any other piece itself.

Source. arXiv 2106.01732 says in its abstract and in the caption of figure 1 that statistical
word alignment is prior knowledge for two tasks, prediction of masked tokens, and the same after
"a word alignment matrix" has swapped "the representations of aligned words in parallel
sentences". Everything else is a **reconstruction**: the joint encoding for both tasks, hard
links made rows that sum to 1, one head, the labels of the original sentence at all masked
positions, the sum with lambda, and the rate of masking. Lambda, that rate and the corpora were
not available; the authors' aligner is FastAlign by another's account, ours is IBM model 1.
"""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from xlt_ray.config import methods
from xlt_ray.modeling.heads import IGNORED, summed_loss
from xlt_ray.modeling.network import Batch, MaskedLm, last_states, masked_lm_head, predicting_states


class WeamNetwork(MaskedLm):
    """Masked LM whose batches have ``swap`` ``(batch, length, length)``."""

    def __init__(self, encoder: PreTrainedModel, settings: methods.Weam, seed: int) -> None:
        super().__init__(encoder, masked_lm_head(encoder, seed))
        self._weight = settings.weight

    def forward(self, batch: Batch) -> Tensor:
        if "labels" not in batch:
            return super().forward(batch)
        states = predicting_states(self.encoder, last_states(self.encoder, batch))
        swapped = batch["swap"].to(states.dtype) @ states
        is_masked = batch["labels"] != IGNORED
        labels, denominator = batch["labels"][is_masked], batch["denominator"]
        plain = summed_loss(self.head(states[is_masked]), labels, denominator)
        crossed = summed_loss(self.head(swapped[is_masked]), labels, denominator)
        return plain + self._weight * crossed
