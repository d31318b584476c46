"""The DeepSpeed engine of one training stage: its configuration, saving, restoring, weights.

A training's state is saved whole, by parameter name: float32 weights and Adam's two moments, as
safetensors. Nothing in it depends on how many workers trained under which ZeRO stage, so any
other runtime can continue from it; and nothing in it is a pickle.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xlt_ray.errors import TrialFailure
from xlt_ray.modeling.layers import checkpoint_activations, compile_layers
from xlt_ray.store.gc import OPTIMIZER
from xlt_ray.training.passes import Pass
from xlt_ray.training.runtime import Runtime

WEIGHTS = "weights.safetensors"

BUCKET = 50_000_000
"""Most gradients that ZeRO reduces at once, for which every process has a buffer in each backward
pass: 100 MB in bf16. DeepSpeed's default is ten times that."""

_LINEAR = nn.functional.linear
_MOMENTS = ("exp_avg", "exp_avg_sq")
_MASTERS = (
    "single_partition_of_fp32_groups",  # ZeRO 1 and 2
    "fp32_groups_flat_partition",  # ZeRO 1 with bf16
    "fp32_partitioned_groups_flat",  # ZeRO 3
)
"""Where DeepSpeed's optimizers keep this worker's part of the float32 weights."""


class Engine:
    """A network in training; all workers call its methods together.

    The learning rate is set before every step from the step's number alone, so no scheduler has a
    state to be saved.
    """

    def __init__(self, network: nn.Module, settings: Mapping[str, Any], runtime: Runtime) -> None:
        import deepspeed

        self.zero_stage = runtime.zero_stage
        _compute_in(network, settings["precision"], runtime.device)
        if runtime.activation_checkpointing:
            checkpoint_activations(network.get_submodule("encoder"))
        if runtime.compile:
            compile_layers(network.get_submodule("encoder"))
        # ZeRO rounds or divides what is not trained, too, and keeps no float32 masters of it.
        self._frozen = {
            parameter: parameter.data
            for parameter in network.parameters()
            if self.zero_stage and not parameter.requires_grad
        }
        self.micro_batch, self.accumulation = runtime.accumulation(settings["batch_size"])
        with _quiet():
            self._engine, self._optimizer, _, _ = deepspeed.initialize(
                model=network,
                model_parameters=_decayed(network, settings["weight_decay"]),
                config=_config(network, settings, runtime, self.micro_batch, self.accumulation),
                dist_init_required=False,
            )
        self.device = self._engine.device
        if runtime.workers == 1 and runtime.zero_stage == 0:
            # With one worker there is nothing to reduce, yet DeepSpeed would copy gradients twice.
            self._engine.enable_backward_allreduce = False
        self._open_states()

    def step(self, micro_batches: list[list[Pass]], learning_rate: float) -> Tensor:
        """One optimizer step over the passes of all micro-batches; returns this worker's loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        total = torch.zeros((), device=self.device)
        for passes in micro_batches:
            loss = sum(self._engine(batch) for batch in passes)
            self._engine.backward(loss)
            self._engine.step()
            total += loss.detach() / len(micro_batches)
        return total

    @property
    def network(self) -> nn.Module:
        """The network as the engine runs it (for evaluation between steps)."""
        module: nn.Module = self._engine.module
        return module

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every trained parameter by name: a copy of its whole float32 weights, on the CPU."""
        for name, parameter in self._trained():
            yield name, self._whole(parameter)

    def snapshot(self, *, is_keeper: bool) -> dict[str, dict[str, Tensor]]:
        """A copy of the state of the training on the CPU, by file and name; empty for workers that
        only pass on their part.

        Raises:
            TrialFailure: a weight is not a number (``nan``).
        """
        weights: dict[str, Tensor] = {}
        moments: dict[str, Tensor] = {}
        for name, parameter in self._trained():
            weights[name] = self._whole(parameter)
            _refuse_divergence(weights[name])
            for moment in _MOMENTS:
                moments[f"{moment}/{name}"] = self._whole(parameter, moment)
            if not is_keeper:
                weights.clear()
                moments.clear()
        return {WEIGHTS: weights, OPTIMIZER: moments} if is_keeper else {}

    def save(self, folder: Path | None) -> None:
        """Write a :meth:`snapshot` into ``folder``; workers without one pass on their part."""
        for name, tensors in self.snapshot(is_keeper=folder is not None).items():
            assert folder is not None
            save_file(tensors, folder / name)

    def load(self, folder: Path, step: int) -> None:
        """Go on from a :meth:`snapshot` that was made after optimizer step ``step``."""
        for state in self._adam.state.values():
            state["step"].fill_(step)
        with (
            safe_open(folder / WEIGHTS, "pt") as weights,
            safe_open(folder / OPTIMIZER, "pt") as moments,
        ):
            for name, parameter in self._trained():
                self._put(parameter, weights.get_tensor(name))
                for moment in _MOMENTS:
                    self._put(parameter, moments.get_tensor(f"{moment}/{name}"), moment)

    @contextmanager
    def whole_weights(self, *, is_keeper: bool = True) -> Iterator[nn.Module]:
        """The network with complete float32 weights, to be saved; on the CPU under ZeRO.

        Under ZeRO the network's own weights are rounded (bf16) or one worker's part of them (stage
        3), so the optimizer's float32 masters are taken. The network of a worker that does not
        save (``is_keeper``) stays as it is: whole weights need not fit beside a training.

        Raises:
            TrialFailure: a weight is not a number (``nan``).
        """
        module = self._engine.module
        if self.zero_stage == 0:
            for parameter in module.parameters():
                _refuse_divergence(parameter)
            yield module
            return
        masters: list[tuple[nn.Parameter, Tensor]] = []
        for parameter in module.parameters():
            if parameter.requires_grad:
                master = self._whole(parameter)
                _refuse_divergence(master)
            else:
                master = self._frozen[parameter]
            if is_keeper:
                masters.append((parameter, master))
        for number, (parameter, master) in enumerate(masters):
            masters[number] = (parameter, parameter.data)
            parameter.data = master
        try:
            yield module
        finally:
            for parameter, data in masters:
                parameter.data = data

    def close(self) -> None:
        """Free the memory at once; the network is empty afterwards.

        DeepSpeed's objects refer to each other in circles, which Python frees late, and under
        ZeRO 3 never, while the next stage needs the memory.
        """
        parameters, optimizer, adam = list(self.network.parameters()), self._optimizer, self._adam
        torch.set_float32_matmul_precision("highest")
        self._engine.destroy()
        # ZeRO 3 replaces it with one that rounds differently, also for later trainings.
        nn.functional.linear = _LINEAR
        self._engine.optimizer = self._engine.basic_optimizer = None
        adam.state.clear()
        adam.param_groups.clear()
        vars(optimizer).clear()
        self._frozen.clear()
        for parameter in parameters:
            # Its part under ZeRO, and its links to float32 weights, gradients and moments.
            vars(parameter).clear()
            parameter.grad = None
            parameter.data = parameter.data.new_empty(0)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that are trained, by name."""
        for name, parameter in self._engine.module.named_parameters():
            if parameter.requires_grad:
                yield name, parameter

    def _whole(self, parameter: nn.Parameter, moment: str | None = None) -> Tensor:
        """Float32 weights of a parameter, or one of its moments, on the CPU."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if self.zero_stage == 0:
            whole = self._optimizer.state[parameter][moment] if moment else parameter
        elif moment:
            whole = safe_get_full_optimizer_state(parameter, moment)
        else:
            whole = safe_get_full_fp32_param(parameter)
        # A copy: on the CPU it would otherwise be the tensor in training.
        copy: Tensor = whole.detach().to("cpu", torch.float32, copy=True).contiguous()
        return copy

    def _put(self, parameter: nn.Parameter, whole: Tensor, moment: str | None = None) -> None:
        from deepspeed.utils import (
            safe_set_full_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        whole = whole.to(self.device)
        if self.zero_stage == 3:
            # The last worker's part may be padded, which DeepSpeed's own setters do not heed.
            held: Tensor = parameter.ds_tensor  # type: ignore[attr-defined]
            width, rank = held.numel(), torch.distributed.get_rank()
            padded = nn.functional.pad(whole.flatten(), (0, width * (rank + 1)))
            part = padded[width * rank : width * (rank + 1)]
            if moment:
                safe_set_local_optimizer_state(parameter, part, moment)
                return
            safe_set_local_fp32_param(parameter, part)
            held.data.copy_(part)
        elif self.zero_stage and moment:
            safe_set_full_optimizer_state(parameter, whole, moment)
        elif self.zero_stage:
            safe_set_full_fp32_param(parameter, whole)
        elif moment:
            self._optimizer.state[parameter][moment].copy_(whole)
        # What the network computes with; under ZeRO 3 only what every worker holds whole.
        if moment is None and parameter.data.numel() == whole.numel():
            parameter.data.copy_(whole)

    def _open_states(self) -> None:
        """Give Adam the states that it would make at its first step.

        Under ZeRO 1 and 2 DeepSpeed links them to the parameters after the first *group* of
        parameters took its first step, and so never sees those of the second group.
        """
        for master in self._masters:
            self._adam.state[master] = {
                "step": torch.zeros((), device=master.device),
                **{moment: torch.zeros_like(master) for moment in _MOMENTS},
            }
        if self.zero_stage in (1, 2):
            self._optimizer._lazy_init_hp_params_optimizer_state()

    @property
    def _adam(self) -> torch.optim.Optimizer:
        """PyTorch's optimizer, which ZeRO's wraps."""
        optimizer: Any = self._optimizer
        return optimizer.optimizer if self.zero_stage else optimizer

    @property
    def _masters(self) -> list[Tensor]:
        """What Adam steps: the parameters themselves, or this worker's part of their float32."""
        optimizer = self._optimizer
        if not self.zero_stage:
            return [weights for group in optimizer.param_groups for weights in group["params"]]
        return list(next(getattr(optimizer, name) for name in _MASTERS if hasattr(optimizer, name)))


def _compute_in(network: nn.Module, precision: str, device: str) -> None:
    """Let a network compute in ``precision``; DeepSpeed itself sees to plain ``bf16``.

    Under autocast the weights and gradients stay float32, whatever ZeRO does with them.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if precision == "bf16-mixed":
        autocast = torch.autocast(device, torch.bfloat16)
        network.forward = autocast(network.forward)


def _config(
    network: nn.Module,
    settings: Mapping[str, Any],
    runtime: Runtime,
    micro_batch: int,
    accumulation: int,
) -> dict[str, Any]:
    num_weights = sum(parameter.numel() for parameter in network.parameters())
    zero: dict[str, Any] = {
        "stage": runtime.zero_stage,
        "reduce_bucket_size": min(num_weights, BUCKET),
    }
    # What ZeRO keeps in the node's memory; PyTorch's Adam steps it on the CPU.
    cpu = {"device": "cpu", "pin_memory": True}
    if runtime.offload != "none":
        zero["offload_optimizer"] = cpu
    if runtime.offload == "all":
        zero["offload_param"] = cpu
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
                "fused": True,
            },
        },
        "zero_optimization": zero,
        "bf16": {"enabled": settings["precision"] == "bf16"},
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }


def _refuse_divergence(weights: Tensor) -> None:
    """The loss of a step is computed before its update, so a gradient that is not finite shows in
    the weights first, and every later stage would inherit it."""
    if not weights.isfinite().all():
        raise TrialFailure(
            "a weight is not a number after an update",
            cause="nan",
            advice="a lower learning rate, a longer warm-up or gradient clipping may help",
        )


def _decayed(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: biases and norms (everything with one dimension) are not decayed."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() > 1]
    vectors = [parameter for parameter in trained if parameter.dim() <= 1]
    groups = ((matrices, weight_decay), (vectors, 0.0))
    return [{"params": group, "weight_decay": decay} for group, decay in groups if group]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence DeepSpeed, which logs every engine, checkpoint and file."""
    logger = logging.getLogger("DeepSpeed")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
