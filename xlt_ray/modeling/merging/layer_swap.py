"""Layer swapping (arXiv 2410.01335): the lowest and highest layers of a language model in the
place of those of a task's model.

The first member is the task's model and the second the language model, both trained from the same
weights. Ours: the embeddings go with the lowest layers, because training on text changes them.
"""

from __future__ import annotations

from torch import Tensor

from xlt_ray.config.methods import LayerSwapMerge
from xlt_ray.errors import ModelError
from xlt_ray.modeling.merging import Part


def layer_swap(part: Part, settings: LayerSwapMerge) -> Tensor:
    if len(part.members) == 1 or part.layer is None:
        # Of head and fusion, and of a pooler, there is the task's alone.
        return part.members[0]
    if settings.bottom + settings.top >= part.num_layers:
        raise ModelError(
            f"of {part.num_layers} layers {settings.bottom} + {settings.top} cannot be swapped",
            model=part.name,
            remedy="swap fewer, so that layers of the task's model are left",
        )
    is_low = part.layer <= settings.bottom and settings.bottom > 0
    is_high = part.layer > part.num_layers - settings.top
    return part.members[1] if is_low or is_high else part.members[0]
