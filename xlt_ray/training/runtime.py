"""How a stage is made, as opposed to what it is (:class:`xlt_ray.store.stage.Stage`).

*Numeric* fields of a runtime may change the last bits of a result: the order of summation, and in
a model with dropout the dropped units, which are drawn for each worker and pass. The record of a
stage keeps them. *Neutral* fields change no bit. Neither is part of a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from xlt_ray.config.diagnostics import Diagnosis
from xlt_ray.config.progress_settings import ProgressSettings

NUMERIC = ("workers", "zero_stage", "offload", "micro_batch", "compile", "threads", "device")
NEUTRAL = (
    "cache",
    "gpu_share",
    "activation_checkpointing",
    "progress",
    "evaluations",
    "watched",
    "watched_examples",
    "evaluation_batch",
    "diagnosis",
    "made_by",
)


@dataclass(frozen=True)
class Runtime:
    """One way to make stages."""

    cache: Path
    """Folder of tokenised data."""
    workers: int = 1
    """Data-parallel processes."""
    zero_stage: int = 0
    offload: Literal["none", "optimizer", "all"] = "none"
    """What DeepSpeed keeps in the node's memory: optimizer states, or weights as well."""
    micro_batch: int | None = None
    """Sequences per worker and pass; None for a worker's whole share of the batch."""
    activation_checkpointing: bool = False
    """Whether the backward pass computes activations again, which gives the same bits."""
    compile: bool = False
    """Whether the layers of the encoder are compiled."""
    threads: int = 1
    """CPU threads of each worker."""
    device: Literal["cpu", "cuda"] = "cpu"
    gpu_share: float = 1.0
    """Share of a GPU's memory for this process; less than 1 if trials share a GPU."""
    progress: ProgressSettings = field(default_factory=ProgressSettings)
    """How often progress is saved."""
    evaluations: int = 4
    """Evaluations during the training of a stage."""
    watched: tuple[str, ...] = ()
    """Languages of an oracle objective that stops trainings early, whose dev sets are scored at
    the evaluations of a target stage."""
    watched_examples: int | Literal["all"] = "all"
    """Most examples of each of them, as in the final evaluation."""
    evaluation_batch: int = 64
    """Rows of the greatest length in a batch of an evaluation; of shorter rows it has more."""
    diagnosis: Diagnosis | None = None
    """Diagnostics of the encoder at every evaluation, if any."""
    batch_limits: Mapping[int, int] = field(default_factory=dict)
    """Length -> most sequences in a pass of one worker, if more did not fit into memory. Neither
    numeric nor neutral: :meth:`fitted` turns it into a micro-batch."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """Sweep, trial and commit, for the record."""

    def numeric(self) -> dict[str, Any]:
        """The numeric fields, for the record; offload and compile only if they are used."""
        fields = {name: getattr(self, name) for name in NUMERIC}
        unused = {"offload": "none", "compile": False}
        return {
            name: value for name, value in fields.items() if (name, value) not in unused.items()
        }

    @property
    def memory_profile(self) -> str:
        """What the memory of a pass depends on besides model and length.

        >>> from pathlib import Path
        >>> Runtime(Path("cache"), device="cuda").memory_profile
        'cuda'
        >>> Runtime(Path("cache"), device="cuda", gpu_share=0.25).memory_profile
        'cuda, 0.25 of it'
        """
        parts: list[str] = [self.device]
        if self.gpu_share < 1:
            parts.append(f"{self.gpu_share:g} of it")
        if self.zero_stage:
            parts.append(f"zero {self.zero_stage} of {self.workers}")
        if self.offload != "none":
            parts.append(f"offload {self.offload}")
        if self.activation_checkpointing:
            parts.append("activation checkpointing")
        return ", ".join(parts)

    def accumulation(self, batch_size: int) -> tuple[int, int]:
        """Micro-batch per worker and accumulation steps at this effective batch size.

        Raises:
            ValueError: the batch cannot be split evenly.
        """
        share, rest = divmod(batch_size, self.workers)
        if rest or not share:
            raise ValueError(f"a batch of {batch_size} cannot be split over {self.workers} workers")
        micro = min(self.micro_batch or share, share)
        if share % micro:
            raise ValueError(
                f"a worker's share of {share} is not a multiple of micro-batch {micro}"
            )
        return micro, share // micro

    def fitted(self, settings: Mapping[str, Any]) -> Runtime:
        """This runtime for a stage of these settings, with passes that fit into memory.

        The micro-batch is the largest size within the limit that splits a worker's share of the
        batch evenly; the effective batch stays as it is.
        """
        most = self.batch_limits.get(settings.get("max_length", 0))
        if most is None:
            return self
        micro = self.micro_batch
        if "batch_size" in settings:
            share = settings["batch_size"] // self.workers
            if most < min(micro or share, share):
                micro = next(size for size in range(most, 0, -1) if share % size == 0)
        return replace(
            self,
            micro_batch=micro,
            evaluation_batch=min(most, self.evaluation_batch),
            batch_limits={},
        )

    def pass_size(self, settings: Mapping[str, Any]) -> int:
        """Sequences in one pass of a stage; this number is halved to need less memory."""
        if "batch_size" in settings:
            return self.fitted(settings).accumulation(settings["batch_size"])[0]
        return self.fitted(settings).evaluation_batch
