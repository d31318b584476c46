"""How a stage is made, as opposed to what it is (:class:`xlt_ray.store.stage.Stage`).

A runtime has two halves. *Numeric* fields may move the last bits of a result by the order of
summation, and in a model with dropout the pieces that are dropped: they are drawn for each worker
and pass, so that another split of a batch is another draw. The record of a stage keeps these
fields. *Neutral* fields leave every bit as it is. Neither is part of a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from xlt_ray.config.diagnostics import Diagnosis

NUMERIC = ("workers", "zero_stage", "offload", "micro_batch", "threads", "device")
NEUTRAL = (
    "cache",
    "gpu_share",
    "progress_every",
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
    """Sequences per worker and pass; a whole share of the batch where it is left out."""
    threads: int = 1
    """CPU threads of each worker."""
    device: Literal["cpu", "cuda"] = "cpu"
    gpu_share: float = 1.0
    """Of a GPU's memory that this process may take: less than 1 where trials use one together."""
    progress_every: float = 60.0
    """Seconds between two saves of progress; it is saved at evaluations, too."""
    evaluations: int = 4
    """Evaluations during the training of a stage."""
    watched: tuple[str, ...] = ()
    """Languages whose dev sets are scored at the evaluations of a target stage, besides its own:
    those of an oracle objective by which trainings are stopped early."""
    watched_examples: int | Literal["all"] = "all"
    """Most examples of each of them, as at the end."""
    evaluation_batch: int = 64
    diagnosis: Diagnosis | None = None
    """What is measured of the encoder at every evaluation, if anything."""
    fits: Mapping[int, int] = field(default_factory=dict)
    """Most sequences in a pass of one worker by their length, where more did not fit into memory.
    No half of its own: :meth:`fitted` makes a micro-batch of it."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """Sweep, trial and commit, for the record."""

    def numeric(self) -> dict[str, Any]:
        """The half that the record keeps; offload only where there is some."""
        fields = asdict(self)
        neutral = {"offload"} if self.offload == "none" else set()
        return {name: fields[name] for name in NUMERIC if name not in neutral}

    @property
    def footing(self) -> str:
        """What the memory of a pass depends on, beside model and length: what did not fit on one
        footing may fit on another.

        >>> from pathlib import Path
        >>> Runtime(Path("cache"), device="cuda").footing
        'cuda'
        >>> Runtime(Path("cache"), device="cuda", gpu_share=0.25).footing
        'cuda, 0.25 of it'
        """
        parts: list[str] = [self.device]
        if self.gpu_share < 1:
            parts.append(f"{self.gpu_share:g} of it")
        if self.zero_stage:
            parts.append(f"zero {self.zero_stage} of {self.workers}")
        if self.offload != "none":
            parts.append(f"offload {self.offload}")
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
            raise ValueError(f"a worker's share of {share} is no multiple of micro-batch {micro}")
        return micro, share // micro

    def fitted(self, settings: Mapping[str, Any]) -> Runtime:
        """This runtime for a stage of these settings, with no more in a pass than fits.

        What a worker's share of the batch cannot be split into evenly is made smaller, to one
        sequence at last; the effective batch stays as it is.
        """
        most = self.fits.get(settings["max_length"])
        if most is None:
            return self
        micro = self.micro_batch
        if "batch_size" in settings:
            share = settings["batch_size"] // self.workers
            if most < min(micro or share, share):
                micro = next(size for size in range(most, 0, -1) if share % size == 0)
        return replace(
            self, micro_batch=micro, evaluation_batch=min(most, self.evaluation_batch), fits={}
        )

    def held(self, settings: Mapping[str, Any]) -> int:
        """Sequences in the passes of a stage of these settings: what is halved to need less."""
        if "batch_size" in settings:
            return self.fitted(settings).accumulation(settings["batch_size"])[0]
        return self.fitted(settings).evaluation_batch
