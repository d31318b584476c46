"""LoRA: a product of two narrow matrices is added to the weights of linear layers.

``h = W x + alpha / r * B A x`` with A ``(r, in)`` random and B ``(out, r)`` zero at first, W frozen
(arXiv 2106.09685, equation 3). Dropout is on the x of the second term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlt_ray.config.methods import LoraPeft

if TYPE_CHECKING:
    from peft import LoraConfig


def lora(settings: LoraPeft, _: str) -> LoraConfig:
    """PEFT's settings; where it knows queries and values, it finds them by itself."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if settings.modules == "all" else None,
    )
