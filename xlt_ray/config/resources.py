"""What a trial occupies and how its workers share the work; part of no key.

``by_model`` gives the trials of a model other resources; what a row omits is as in the section.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from xlt_ray.config.methods import ConfigModel
from xlt_ray.config.trial import Precision

SMALLEST_SHARE = 0.01
"""Smallest share of a GPU; Ray itself counts in ten-thousandths."""

Strategy = Literal["pack", "spread", "strict_pack", "strict_spread"]
Offload = Literal["none", "optimizer", "all"]
_BF16_NEEDS = "bf16 needs zero_stage 1, 2 or 3, which keep fp32 master weights"
_BF16_REMEDY = "zero_stage: 1, 2 or 3, or precision: bf16-mixed"


class WorkerResources(ConfigModel):
    """The workers of one trial."""

    workers: int = Field(default=1, ge=1)
    """Data-parallel processes."""
    cpus_per_worker: int = Field(default=1, ge=1)
    """Cores and threads of each process."""
    gpus_per_worker: float = Field(default=0, ge=0, le=1)
    """1, or with one worker a share such as 0.25: four trials then share a GPU, each with a quarter
    of the memory."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed ZeRO stage (arXiv 1910.02054)."""
    offload: Offload = "none"
    """What the node's memory holds instead of the GPU's (ZeRO-Offload, arXiv 2101.06840): optimizer
    states and their updates (zero_stage 2 or 3), or also the weights (zero_stage 3). Slower; for
    models that do not fit otherwise."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Sequences per worker and pass; the rest of a batch is accumulated."""
    activation_checkpointing: bool = False
    """Compute the activations of every layer again in the backward pass instead of keeping them: a
    third more arithmetic, and memory for longer or more sequences (arXiv 1604.06174)."""
    compile: bool = False
    """Compile the layers of the encoder with torch.compile, which takes minutes at first and pays
    for long trainings on GPUs (zero_stage 0 to 2)."""
    strategy: Strategy = "pack"
    """Where a trial's workers go: to as few nodes as possible or to as many. With strict a trial
    waits until there is one node for all, or a node for each."""


class ModelResources(WorkerResources):
    """What differs for the trials of one model."""

    @model_serializer(mode="wrap")
    def _as_written(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What a row omits stays omitted, so that the section still decides it.
        return {name: value for name, value in whole(self).items() if name in self.model_fields_set}


class Resources(WorkerResources):
    """What one trial occupies."""

    precision: Precision = "fp32"
    """Precision of the training arithmetic. tf32: products of matrices on GPUs, which keep 10 bits
    of fp32's 23. bf16-mixed: weights and gradients in fp32, products in bf16 (autocast). bf16:
    everything but DeepSpeed's master weights, with zero_stage 1 or more. Part of stage keys."""
    by_model: Mapping[str, ModelResources] = Field(default_factory=dict)
    """Model -> resources of its trials where they differ."""

    @field_validator("precision")
    @classmethod
    def _bf16_has_masters(cls, precision: Precision, info: ValidationInfo) -> Precision:
        # DeepSpeed keeps float32 master weights in its ZeRO optimizers only.
        if precision == "bf16" and info.data.get("zero_stage") == 0:
            raise ValueError(f"{_BF16_NEEDS}; use {_BF16_REMEDY}")
        return precision

    def of(self, model: str) -> Resources:
        """The resources of a trial of this model.

        >>> table = Resources(workers=2, by_model={"small": {"workers": 1}})
        >>> table.of("small").workers, table.of("large").workers
        (1, 2)
        """
        row = self.by_model.get(model, ModelResources())
        changed = {name: getattr(row, name) for name in row.model_fields_set}
        return self.model_copy(update={**changed, "by_model": {}})

    @property
    def grow_with_shapes(self) -> bool:
        """Whether a process of trials grows with every new shape of a batch.

        On CPUs PyTorch 2.13 keeps what it made for products in bf16 of each shape, about 4 MB for
        six layers, without a limit.
        """
        rows = (self, *map(self.of, self.by_model))
        return self.precision.startswith("bf16") and any(not row.gpus_per_worker for row in rows)

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Settings that exclude each other, also in rows of the table: key, problem, remedy."""
        for key, problem, remedy in _faults_of(self):
            yield f"resources.{key}", problem, remedy
        for model, row in self.by_model.items():
            place = f"resources.by_model.{model}"
            for key, problem, remedy in _faults_of(self.of(model)):
                key = f"{place}.{key}" if key in row.model_fields_set else place
                yield key, f"{problem} (trials of {model})", remedy


def _faults_of(group: Resources) -> Iterator[tuple[str, str, str]]:
    gpus, zero = group.gpus_per_worker, group.zero_stage
    if 0 < gpus < SMALLEST_SHARE:
        yield "gpus_per_worker", f"{gpus:g} of a GPU is too little", f"at least {SMALLEST_SHARE}"
    if 0 < gpus < 1 and group.workers > 1:
        yield (
            "gpus_per_worker",
            f"{group.workers} workers of one trial cannot each have {gpus:g} of a GPU: NCCL "
            "refuses two processes of a group on one GPU",
            "workers: 1, or gpus_per_worker: 1",
        )
    if group.offload != "none" and gpus == 0:
        yield (
            "offload",
            "a trial without GPUs has no GPU memory to relieve",
            "gpus_per_worker: 1, or offload: none",
        )
    elif group.offload == "optimizer" and zero < 2:
        yield (
            "offload",
            f"zero_stage {zero} leaves optimizer states on the GPUs",
            "zero_stage: 2 or 3, or offload: none",
        )
    elif group.offload == "all" and zero != 3:
        yield (
            "offload",
            f"zero_stage {zero} keeps whole weights on every GPU",
            "zero_stage: 3, or offload: optimizer with zero_stage 2",
        )
    if group.precision == "bf16" and zero == 0:
        yield "zero_stage", _BF16_NEEDS, _BF16_REMEDY
    if group.precision == "tf32" and gpus == 0:
        yield (
            "precision",
            "tf32 is arithmetic of GPUs, and a trial has none",
            "gpus_per_worker: 1, or precision: fp32",
        )
    if group.compile and zero == 3:
        yield (
            "compile",
            "zero_stage 3 gathers the weights of a layer inside it, which cannot be compiled",
            "zero_stage: 0, 1 or 2, or compile: false",
        )
