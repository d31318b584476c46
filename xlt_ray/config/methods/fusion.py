"""Fusion: how layers of the encoder become the states that a head reads."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from xlt_ray.config.methods.base import ConfigModel, Method


class NoFusion(ConfigModel):
    method: Literal["none"] = "none"


class LayerFusion(ConfigModel):
    """What fusions of the last layer with one lower layer have in common."""

    added = frozenset({"placement"})
    narrowest: ClassVar[int] = 4  # inner width: a norm over 1 is a constant, over 2 a sign

    layer: int = Field(ge=0)
    """Lower layer to fuse with the last one: 0 is the embeddings, at most num_layers - 1."""
    reduction: int = Field(default=4, ge=1)
    """Bottleneck ratio r of the attention branches (inner width = hidden / r)."""
    placement: Literal["pieces", "first", "mean"] = "pieces"
    """Fuse every piece, or one state a sentence: that of the first piece or the mean of all."""


class DlfaFusion(LayerFusion):
    method: Literal["dlfa"]


class AifFusion(LayerFusion):
    method: Literal["aif"]


class MixFusion(ConfigModel):
    method: Literal["mix"]


FUSIONS: tuple[Method, ...] = (
    Method("none", NoFusion, "xlt_ray.modeling.fusion.none:NoFusion", "the last layer alone"),
    Method(
        "dlfa",
        DlfaFusion,
        "xlt_ray.modeling.fusion.dlfa:DlfaFusion",
        "last layer and layer k, weighted by local and global attention",
        "arXiv 2205.08497 (reconstruction after AFF, arXiv 2009.14082)",
    ),
    Method(
        "aif",
        AifFusion,
        "xlt_ray.modeling.fusion.aif:AifFusion",
        "as dlfa, its result weighted once more by attention of its own",
        "arXiv 2205.08497 (reconstruction after iAFF, arXiv 2009.14082)",
    ),
    Method(
        "mix",
        MixFusion,
        "xlt_ray.modeling.fusion.mix:MixFusion",
        "learned scalar weights over all layers",
        "arXiv 1802.05365 (ELMo), eq. 1",
    ),
)
