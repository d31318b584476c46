"""IA3: learned vectors scale keys, values and the inputs of output layers.

``softmax(Q (l_k * K)^T / sqrt(d)) (l_v * V)``, and ``W2 (l_ff * f(W1 x))`` in the feed-forward
part; all vectors are 1 at first (arXiv 2205.05638, section 3.3). PEFT scales the inputs of the
attention's output layer as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlt_ray.config.methods import Ia3Peft

if TYPE_CHECKING:
    from peft import IA3Config


def ia3(_: Ia3Peft, model_type: str) -> IA3Config:
    """PEFT's settings, which know RoBERTa and not XLM-R, whose layers have the same names."""
    from peft import IA3Config
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    )

    known = "roberta" if model_type == "xlm-roberta" else model_type
    return IA3Config(
        target_modules=TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(known),
        feedforward_modules=TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(known),
    )
