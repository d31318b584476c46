"""The DeepSpeed engine of one training stage: its configuration, saving, restoring, weights.

The only module that knows DeepSpeed's ways. The learning rate is set before every step from
the step's number alone, so no scheduler has a state to be saved.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xlt_ray.training.runtime import Runtime

TAG = "progress"


class Engine:
    """A network in training. Collective: every worker calls every method together."""

    def __init__(self, network: nn.Module, settings: Mapping[str, Any], runtime: Runtime) -> None:
        import deepspeed

        self.zero_stage = runtime.zero_stage
        self.micro_batch, self.accumulation = runtime.accumulation(settings["batch_size"])
        with _quiet():
            self._engine, self._optimizer, _, _ = deepspeed.initialize(
                model=network,
                model_parameters=_decayed(network, settings["weight_decay"]),
                config=_config(settings, runtime, self.micro_batch, self.accumulation),
                dist_init_required=False,
            )
        self.device = self._engine.device

    def step(self, micro_batches: list[dict[str, Tensor]], learning_rate: float) -> Tensor:
        """One optimizer step over all micro-batches; returns this worker's loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        total = torch.zeros((), device=self.device)
        for batch in micro_batches:
            loss = self._engine(batch)
            self._engine.backward(loss)
            self._engine.step()
            total += loss.detach() / len(micro_batches)
        return total

    @property
    def network(self) -> nn.Module:
        """The network as the engine runs it (for evaluation between steps)."""
        module: nn.Module = self._engine.module
        return module

    def save(self, folder: Path) -> None:
        """Write this worker's part of weights and optimizer state into its own ``folder``."""
        (folder / TAG).mkdir(exist_ok=True)
        with _quiet():
            self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        with _quiet():
            self._engine.load_checkpoint(str(folder), tag=TAG)

    @contextmanager
    def whole_weights(self) -> Iterator[nn.Module]:
        """The network with complete float32 weights, for saving by the leader.

        With ZeRO the truth is in the optimizer's float32 masters; the network's own weights
        are rounded (bf16) or one worker's part of them (stage 3).
        """
        from deepspeed.utils import safe_get_full_fp32_param

        module = self._engine.module
        if self.zero_stage == 0:
            yield module
            return
        parameters = list(module.parameters())
        masters = [safe_get_full_fp32_param(one) for one in parameters]
        kept = [one.data for one in parameters]
        for parameter, master in zip(parameters, masters, strict=True):
            assert master is not None, "every parameter is trained"
            parameter.data = master
        try:
            yield module
        finally:
            for parameter, data in zip(parameters, kept, strict=True):
                parameter.data = data

    def close(self) -> None:
        """Give the memory back; the network must not be used any more."""
        self._engine.destroy()


def learning_rate(step: int, num_steps: int, peak: float, warmup: float) -> float:
    """Linear rise over the first ``warmup`` share of the steps, then linear decay to zero.

    >>> [learning_rate(step, 4, 1.0, 0.25) for step in range(4)]
    [1.0, 1.0, 0.6666666666666666, 0.3333333333333333]
    """
    rising = int(num_steps * warmup)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (num_steps - step) / (num_steps - rising)


def _config(
    settings: Mapping[str, Any], runtime: Runtime, micro_batch: int, accumulation: int
) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": settings["clip"],
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": settings["learning_rate"],
                "betas": (0.9, 0.999),
                "eps": 1e-8,
                "weight_decay": settings["weight_decay"],
                # DeepSpeed's own Adam is compiled at first use; clusters lack compilers.
                "torch_adam": True,
            },
        },
        "zero_optimization": {"stage": runtime.zero_stage},
        "bf16": {"enabled": settings["precision"] == "bf16"},
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def _decayed(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: biases and norms (everything with one dimension) are not decayed."""
    parameters = [one for one in network.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": weight_decay},
        {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@contextmanager
def _quiet() -> Iterator[None]:
    """DeepSpeed tells about every engine, checkpoint and file; none of it is for users."""
    logger = logging.getLogger("DeepSpeed")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
