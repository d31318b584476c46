"""A stage: everything that decides the bits of one training or evaluation result.

Its key is the SHA-256 of the canonical form of kind, version, settings, data fingerprints,
seed and the parent's key. What does not change the science (workers, ZeRO stage, micro-batch
at equal effective batch) is no part of it: that is :class:`xlt_ray.training.runtime.Runtime`.
A change of a kind's *meaning* bumps its number in :data:`VERSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from xlt_ray.store.canonical import Json, canonical, digest

Kind = Literal["model", "align", "trunk", "intermediate", "target", "few_shot", "merge", "evaluate"]

VERSIONS: Mapping[Kind, int] = {
    "model": 1,
    "align": 3,
    "trunk": 3,
    "intermediate": 3,
    "target": 3,
    "few_shot": 3,
    "merge": 1,
    "evaluate": 2,
}


@dataclass(frozen=True)
class Stage:
    """One node of the tree; ``parent`` is None for the model that a path starts from.

    A merge has as its parent the encoder that its first member started from.
    """

    kind: Kind
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    seed: int
    parent: Stage | None
    label: str
    """For people; no part of the key."""
    num_examples: int = 0
    """Examples that it trains, after those of the trunk that it goes on from."""
    starts_at: int = 0
    """Examples that the trunk which it goes on from has seen."""
    version: int = 0
    members: tuple[Stage, ...] = ()
    """The stages that a merge is made of, in this order."""

    def __post_init__(self) -> None:
        if not self.version:
            object.__setattr__(self, "version", VERSIONS[self.kind])

    @cached_property
    def payload(self) -> dict[str, Json]:
        """The declared fields that are hashed."""
        return {
            "kind": self.kind,
            "version": self.version,
            "settings": canonical(self.settings, "settings"),
            "data": canonical(self.data, "data"),
            "seed": self.seed,
            "parent": self.parent.key if self.parent else None,
            **({"members": [member.key for member in self.members]} if self.members else {}),
        }

    @cached_property
    def key(self) -> str:
        """64 hex digits."""
        return digest(self.payload)

    @property
    def is_pretrained(self) -> bool:
        """Whether it exists without being made (the model that a path starts from)."""
        return self.kind == "model"

    @property
    def ends_at(self) -> int:
        """Examples that have been seen at its end, those of its trunk included."""
        return self.starts_at + self.num_examples

    @property
    def is_training(self) -> bool:
        return self.kind in ("align", "trunk", "intermediate", "target", "few_shot")

    @property
    def is_adapter(self) -> bool:
        """Whether its result is only what was trained beside the encoder that it started from."""
        return is_adapter(self.payload)

    @cached_property
    def ladder(self) -> str:
        """What all trunks have in common that are beginnings of one another."""
        assert self.kind == "trunk"
        payload = self.payload
        settings = {**payload["settings"]}  # type: ignore[dict-item]
        del settings["steps"]
        return digest({**payload, "settings": settings})


def head_seed_of(stage: Stage) -> int:
    """The seed that the new weights of a stage's head and fusion come from."""
    seed: int = stage.settings.get("head_seed", stage.seed)
    return seed


def is_adapter(payload: Mapping[str, Any]) -> bool:
    """:attr:`Stage.is_adapter` of a stage with this payload."""
    return "peft" in payload["settings"] and payload["kind"] != "trunk"


def short(key: str) -> str:
    """A key as people read it: ten digits."""
    return key[:10]
