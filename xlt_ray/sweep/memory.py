"""Peak memory of a stage in each of its workers, from shapes alone.

A training holds weights and the mapped file that they came from, Adam's two moments, the weights
of its best evaluation, and the activations of one pass: those of a layer for each of its pieces,
and attention probabilities for each pair of pieces and head. To these come gradients, and copies of
weights and moments while progress is written; or, when a result is written, the whole table of
pieces and the bytes of the file, while the allocator still has the memory of the activations. On a
GPU the state is there, and the copies in the memory of the node. Sums of the parts were compared
with measured peaks (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.facts import ModelFacts
from xlt_ray.config.progress_settings import FIRST_WEIGHTS_PER_S, ProgressSettings
from xlt_ray.config.resources import Resources
from xlt_ray.sweep.cost import BATCH_ROWS, PREDICTED, Text, trained_parameters, trained_rows

LIBRARIES = 620 * 2**20
"""Of a process that has imported PyTorch, transformers and DeepSpeed, with their files."""
PIECE = 1000
"""Of a tokenizer, for each piece."""
DEFAULT = ProgressSettings()
CONTEXT = 9 * 2**26
"""GPU memory of CUDA and its libraries in each process."""


@dataclass(frozen=True)
class PeakMemory:
    """Bytes of one worker."""

    process: float
    """Of the node's memory."""
    gpu: float = 0.0

    def __or__(self, other: PeakMemory) -> PeakMemory:
        """The larger of both, apart for each memory."""
        return PeakMemory(max(self.process, other.process), max(self.gpu, other.gpu))


def peak_memory(
    kind: str,
    settings: Mapping[str, Any],
    num_examples: int,
    model: ModelFacts,
    text: Text,
    resources: Resources,
    *,
    seconds: float = math.inf,
    progress: ProgressSettings = DEFAULT,
) -> PeakMemory:
    """The peak of a worker that makes a stage.

    Args:
        text: what a training reads.
        seconds: how long it takes; a short training ends before it saves progress.
    """
    weights = 4.0 * model.num_parameters
    libraries = LIBRARIES + PIECE * model.vocabulary_size
    if kind == "evaluate":
        length = settings["max_length"]
        activations = forward_bytes(model, BATCH_ROWS * length, length)
        state, gradients, copies = weights, 0.0, 0.0
    else:
        trained = trained_parameters(model, settings, text.vocabulary)
        length = text.longest_of(num_examples / settings["batch_size"])
        if settings.get("batching") == "pieces":
            length = text.mean
        rows = settings["batch_size"] / resources.workers
        rows = min(rows, resources.micro_batch or rows)
        has_mlm = kind == "align" or "mlm" in settings
        activations = activation_bytes(model, rows, length, resources)
        if has_mlm:
            # Logits, their gradient, and the logarithms of probabilities.
            activations += 3 * 4 * PREDICTED * rows * length * model.vocabulary_size
        state = state_bytes(model.num_parameters, trained, resources)
        gradients = gradient_bytes(trained, resources)
        is_trimmed = 0 < trained_rows(model, settings, text.vocabulary) < model.vocabulary_size
        table = 4 * model.vocabulary_size * model.embedding_width if is_trimmed else 0
        kept = sum(name in settings for name in ("select", "average"))
        is_saved = seconds > progress.interval(trained / FIRST_WEIGHTS_PER_S)
        progress_bytes = 12 * trained * is_saved
        if not resources.gpus_per_worker:
            progress_bytes += gradients
        copies = 4 * trained * kept + max(progress_bytes, weights + table)
    if not resources.gpus_per_worker:
        return PeakMemory(libraries + weights + state + copies + activations)
    offloaded = {"none": 0.0, "optimizer": 8.0, "all": 12.0}[resources.offload]
    on_node = offloaded * model.num_parameters / resources.workers
    return PeakMemory(
        libraries + weights + copies + on_node, CONTEXT + state + gradients - on_node + activations
    )


def state_bytes(parameters: float, trained: float, resources: Resources) -> float:
    """Weights and moments of one worker (ZeRO, arXiv 1910.02054, section 3).

    >>> state_bytes(1, 1, Resources())
    12.0
    >>> state_bytes(1, 1, Resources(workers=4, zero_stage=2, precision="bf16"))
    5.0
    """
    each, whole = resources.workers, resources.zero_stage
    is_bf16 = resources.precision == "bf16"
    size = 2 if is_bf16 else 4
    # Plain bf16 has fp32 masters beside the moments.
    optimizer = (12 if is_bf16 or whole else 8) * trained / (each if whole >= 1 else 1)
    weights = size * parameters / (each if whole >= 3 else 1)
    return float(weights + optimizer)


def gradient_bytes(trained: float, resources: Resources) -> float:
    """Gradients of one worker."""
    size = 2 if resources.precision == "bf16" else 4
    return size * trained / (resources.workers if resources.zero_stage >= 2 else 1)


def activation_bytes(model: ModelFacts, rows: float, length: float, resources: Resources) -> float:
    """What the backward pass of one pass over ``rows`` x ``length`` pieces reads (arXiv 2205.05198,
    section 4), in the precision of the products."""
    size = 2 if resources.precision in ("bf16", "bf16-mixed") else 4
    cells, width = rows * length, model.hidden_size
    layer = cells * size * (8 * width + 2 * model.feed_forward)
    if not resources.gpus_per_worker:
        # PyTorch's kernel for CPUs keeps the probabilities; with dropout also what is left of them.
        layer += cells * size * 2 * model.num_heads * length
    if resources.activation_checkpointing:
        return model.num_layers * cells * size * width + layer
    return model.num_layers * layer


def forward_bytes(model: ModelFacts, cells: float, length: float) -> float:
    """Of a layer in an evaluation, and the states of the layers around it."""
    return 4 * cells * (4 * model.hidden_size + 2 * model.feed_forward + model.num_heads * length)
