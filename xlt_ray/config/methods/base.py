"""What every method has: settings, and an entry that names its implementation.

An entry names its implementation as text, so that reading a sweep file imports no heavy library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

SeedScope = Literal["shared", "per_trial"]


class ConfigModel(BaseModel):
    """Settings of one method or section: closed, frozen, documented in place."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    added: ClassVar[frozenset[str]] = frozenset()
    """Settings that stages were trained without: no part of a key while they have their default."""

    def hashed(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """The values that enter a stage's key: all but ``exclude`` and neutral added ones."""
        fields = type(self).model_fields
        neutral = {name for name in self.added if getattr(self, name) == fields[name].default}
        return self.model_dump(exclude={*exclude, *neutral})


class Training(ConfigModel):
    """What every training stage sets."""

    learning_rate: float = Field(default=2e-5, gt=0.0)
    """Peak learning rate of AdamW."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences per optimizer step, over all workers and accumulation steps."""
    max_length: int | None = Field(default=None, ge=8)
    """Most pieces of a row. Left out: 384 for passages, else 128, or as many as the model reads."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW weight decay (none on biases and LayerNorm)."""
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of all steps over which the learning rate rises to its peak, linearly."""
    clip: float = Field(default=1.0, ge=0.0)
    """Largest gradient norm; 0 leaves gradients as they are."""


@dataclass(frozen=True)
class Method:
    """One entry of a family."""

    name: str
    settings: type[ConfigModel]
    implementation: str
    """``module:object``, imported when the method is used."""
    summary: str
    source: str = ""
    network: str = ""
    """What builds the network of an alignment objective; empty means masked LM."""

    def load(self) -> Any:
        """Import and return the object that implements the method."""
        return resolve_name(self.implementation)

    def load_network(self) -> Any:
        """Import and return what builds the network, ``(encoder, settings, seed) -> nn.Module``."""
        return resolve_name(self.network or "xlt_ray.modeling.network:masked_lm")


def method_named(registry: tuple[Method, ...], name: str) -> Method:
    """The entry called ``name``; a KeyError is our own mistake, users are refused earlier."""
    return {entry.name: entry for entry in registry}[name]
