"""``xlt.json``: what an exported folder says of its model, beside the weights.

It suffices to load the network, to decode its predictions and to trace its origin without a home or
sweep file. ``format`` is raised when the meaning of a field changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from xlt_ray.config.task_types import KINDS, TaskKind
from xlt_ray.errors import ModelError

FILE = "xlt.json"


class _Part(BaseModel):
    # A newer version may have written further fields, which do not change the meaning of these.
    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class ExportedStage(_Part):
    """One stage of the path that led to the network."""

    kind: str
    key: str
    label: str
    is_freed: bool = False
    """Whether it is no longer in the store; the fields below are then empty."""
    seed: int | None = None
    settings: Mapping[str, Any] = {}
    data: Mapping[str, Any] = {}
    """Digests of the data that it was trained or scored on."""
    selected_step: int | None = None
    """The step whose weights were selected (``target.select: best``)."""
    runtime: Mapping[str, Any] = {}
    """What may have changed the last bits."""
    time: str = ""
    """When it was made."""
    commit: str = ""
    """Commit of the xlt-ray that made it, with ``+`` where files differed; empty if unknown."""
    versions: Mapping[str, str] = {}
    """Versions of the libraries that made it."""


class ExportedScore(_Part):
    """One number of the evaluation."""

    task: str
    language: str
    split: str
    metric: str
    value: float
    num_examples: int
    role: str
    """As :attr:`xlt_ray.store.record.Score.role`."""


class Exported(_Part):
    """The content of ``xlt.json``."""

    format: Literal[1] = 1
    sweep: str
    trial: int
    configuration: int
    seed: int
    params: Mapping[str, Any]
    """Searched parameters by dotted path."""
    objective: float | None
    """By which the sweep ranked this trial; None if it did not end."""
    selection: str
    """Rule that selected this trial."""
    supervision: str = ""
    """The labels it learned from (:mod:`xlt_ray.config.supervision`); empty if unknown."""
    model: str
    """The model that the path starts with."""
    weights: str = ""
    """The model's commit on the hub, or the digest of its folder; empty if unknown."""
    task: str
    kind: TaskKind
    labels: tuple[str, ...]
    """By their number in the logits."""
    source_language: str
    fusion: Mapping[str, Any]
    max_length: int = Field(ge=1)
    """Most pieces of a row in training."""
    tasks: Mapping[str, Mapping[str, Any]]
    """The task files of every stage, by name."""
    stages: tuple[ExportedStage, ...]
    languages: tuple[str, ...]
    """Languages that trials of the sweep were tested in, the source language first."""
    scores: tuple[ExportedScore, ...]
    versions: Mapping[str, str]
    """Versions of the libraries that wrote the folder."""
    transformers_class: str = ""
    """The class of transformers that can hold the whole network; empty if there is none."""

    @field_validator("kind")
    @classmethod
    def _has_a_head(cls, kind: TaskKind) -> TaskKind:
        if not KINDS[kind].is_trained:
            raise ValueError(f"nothing is trained for {kind}")
        return kind


def read_exported(folder: Path) -> Exported:
    """The ``xlt.json`` of a folder.

    Raises:
        ModelError: the file is missing, or is not of this version's form.
    """
    file = folder / FILE
    try:
        return Exported.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{FILE} cannot be read ({error.strerror})",
            model=str(folder),
            remedy="give a folder that `xlt export NAME DIR` wrote",
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        raise ModelError(
            f"{key or 'file'}: {first['msg']}", model=str(file), remedy="export the model again"
        ) from None
