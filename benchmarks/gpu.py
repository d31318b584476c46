"""What each switch for GPUs costs and gives: pieces a second, MFU, peak memory.

One network (XLM-R's shape with random weights, tagging) trains on the same batches under every
setting, and beside it the class of transformers in a plain loop and, where accelerate is installed,
under the Trainer. Pieces are those that are not padding. MFU (model FLOPs utilisation) counts the
arithmetic that the model needs, not what is computed again, against the peak of ``--peak``.

    python -m benchmarks.gpu                        on a GPU: XLM-R base, 32 rows of 128 pieces
    python -m benchmarks.gpu --model FacebookAI/xlm-roberta-large --peak 989
    python -m benchmarks.gpu --device cpu           a tiny shape, to try the script itself
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.common import print_table
from xlt_ray.config.model_presets import Preset, find_preset

NUM_LABELS, SEED, RATE, CLIP = 17, 0, 1e-5, 1.0
TINY = Preset("tiny", "xlm-roberta", 2, 64, 2, 200_000, 1000, 512, "0")
H200_FLOPS, H200_BYTES = 989e12, 4.8e12
"""A second, bf16 without sparsity, by NVIDIA's data sheet."""

# -- arithmetic ---------------------------------------------------------------------------


def training_flops(preset: Preset, length: int) -> int:
    """Floating point operations of one piece in a row of ``length``, forward and backward.

    A layer multiplies by 12 width^2 weights (4 of attention, 8 of two layers between), two
    operations each, and compares with ``length`` pieces twice; the backward pass takes twice as
    many. Embeddings are looked up, and the head of a task is small.

    >>> training_flops(find_preset("xlm-roberta-base"), 128)
    523763712
    """
    width = preset.hidden_size
    layer = 2 * 12 * width**2 + 2 * 2 * width * length
    return 3 * preset.num_layers * layer


def state_bytes(preset: Preset) -> int:
    """Float32 weights, gradients and two moments, as under fp32, tf32 and bf16-mixed."""
    return 16 * preset.num_parameters


def optimizer_bytes(preset: Preset) -> int:
    """What one step of AdamW moves: it reads these four and writes all but the gradients."""
    return (16 + 12) * preset.num_parameters


def activation_bytes(preset: Preset, pieces: int, *, again: bool = False) -> int:
    """Activations in 16 bits with fused attention (arXiv 2205.05198, equation 1 without the
    probabilities); ``again``: the input of each layer, and all of one layer."""
    layer = 34 * preset.hidden_size * pieces
    kept = 2 * preset.hidden_size * pieces
    return preset.num_layers * kept + layer if again else preset.num_layers * layer


def largest_mfu(preset: Preset, rows: int, length: int) -> float:
    """MFU on an H200 if arithmetic and AdamW took no longer than its data sheet allows, and
    everything else no time."""
    arithmetic = training_flops(preset, length) * rows * length / H200_FLOPS
    return arithmetic / (arithmetic + optimizer_bytes(preset) / H200_BYTES)


def arithmetic_row(name: str, rows: int, length: int) -> str:
    """The row of docs/gpu.md for an encoder and a batch.

    >>> print(arithmetic_row("xlm-roberta-base", 32, 128))
    | xlm-roberta-base | 32 x 128 | 0.52 | 2.1 | 4.4 | 7.8 | 1.3 | 0.2 | 3.8 | 57 |
    """
    preset = find_preset(name)
    assert preset is not None
    pieces = rows * length
    flops = training_flops(preset, length)
    least_s = flops * pieces / H200_FLOPS / largest_mfu(preset, rows, length)
    cells = (
        name,
        f"{rows} x {length}",
        f"{flops / 1e9:.2f}",
        f"{flops * pieces / 1e12:.1f}",
        f"{state_bytes(preset) / 1e9:.1f}",
        f"{optimizer_bytes(preset) / 1e9:.1f}",
        f"{activation_bytes(preset, pieces) / 1e9:.1f}",
        f"{activation_bytes(preset, pieces, again=True) / 1e9:.1f}",
        f"{1e3 * least_s:.1f}",
        f"{100 * largest_mfu(preset, rows, length):.0f}",
    )
    return f"| {' | '.join(cells)} |"


# -- what is measured ---------------------------------------------------------------------

Arrays = Mapping[str, Any]
TRAINER = "transformers, Trainer, bf16"


@dataclass(frozen=True)
class Setup:
    """One shape, its batches, and where it is trained."""

    preset: Preset
    device: str
    batches: Sequence[Arrays]
    num_warm: int
    """First steps, which are not measured: kernels are chosen and compiled."""
    length: int
    peak: float
    """TFLOP/s."""

    def pieces(self) -> int:
        return sum(int(batch["attention_mask"].sum()) for batch in self.batches[self.num_warm :])


def make_batches(preset: Preset, rows: int, length: int, number: int) -> list[Arrays]:
    """Rows of three quarters to all of ``length``, a multiple of 8, as batches of like lengths."""
    import numpy as np

    random = np.random.default_rng(SEED)
    batches = []
    for _ in range(number):
        lengths = random.integers(3 * length // 4, length + 1, rows)
        mask = (np.arange(-(-lengths.max() // 8) * 8) < lengths[:, None]).astype(np.int64)
        ids = np.where(mask == 1, random.integers(5, preset.vocabulary_size, mask.shape), 1)
        labels = np.where(mask == 1, random.integers(0, NUM_LABELS, mask.shape), -100)
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return batches


def config_of(preset: Preset, **more: Any) -> Any:
    from transformers import XLMRobertaConfig

    return XLMRobertaConfig(
        vocab_size=preset.vocabulary_size,
        hidden_size=preset.hidden_size,
        num_hidden_layers=preset.num_layers,
        num_attention_heads=preset.num_heads,
        intermediate_size=4 * preset.hidden_size,
        max_position_embeddings=preset.max_positions + 2,
        type_vocab_size=1,
        **more,
    )


def timed_steps(setup: Setup, steps: Iterator[Any]) -> tuple[float, str]:
    """Seconds of all steps but the first ones, and the peak memory of the device."""
    import torch

    def now() -> float:
        if setup.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    if setup.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in islice(steps, setup.num_warm):
        pass
    began = now()
    for _ in steps:
        pass
    seconds = now() - began
    if setup.device == "cuda":
        return seconds, f"{torch.cuda.max_memory_allocated() / 2**30:.1f}"
    return seconds, "-"


def ours(
    setup: Setup,
    precision: str,
    *,
    reads_masks: bool = False,
    is_prefetched: bool = True,
    **runtime: Any,
) -> tuple[float, str]:
    """This package's engine under a precision and a runtime."""
    import torch
    from transformers import XLMRobertaModel

    from xlt_ray.config.methods import NoFusion
    from xlt_ray.modeling.encoder import attend_without_reading
    from xlt_ray.modeling.network import build_network
    from xlt_ray.training.deepspeed_engine import Engine
    from xlt_ray.training.load import tensors_of
    from xlt_ray.training.prefetch import prefetched
    from xlt_ray.training.runtime import Runtime

    torch.manual_seed(SEED)
    encoder = XLMRobertaModel(config_of(setup.preset), add_pooling_layer=False).train()
    if not reads_masks:
        attend_without_reading(encoder)
    network = build_network(encoder, "tag", NoFusion(), NUM_LABELS, SEED)
    settings = {"batch_size": len(setup.batches[0]["labels"]), "learning_rate": RATE,
                "weight_decay": 0.0, "clip": CLIP, "precision": precision}  # fmt: skip
    engine = Engine(
        network,
        settings,
        Runtime(cache=Path(tempfile.gettempdir()), device=setup.device, **runtime),
    )

    def on_device() -> Iterator[dict[str, Any]]:
        for batch in setup.batches:
            tensors = tensors_of(batch, engine.device)
            num_labels = float((batch["labels"] != -100).sum())
            yield {**tensors, "denominator": torch.tensor(num_labels, device=engine.device)}

    batches: Iterable[dict[str, Any]] = on_device()
    if is_prefetched:
        batches = prefetched(batches, engine.device)
    try:
        return timed_steps(setup, (engine.step([[batch]], RATE) for batch in batches))
    finally:
        engine.close()


def plain_loop(setup: Setup) -> tuple[float, str]:
    """transformers in a loop: autocast and fused AdamW, batches copied between steps."""
    import torch
    from transformers import XLMRobertaForTokenClassification

    torch.manual_seed(SEED)
    network = XLMRobertaForTokenClassification(config_of(setup.preset, num_labels=NUM_LABELS))
    network.to(setup.device).train()
    adam = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    def steps() -> Iterator[None]:
        for batch in setup.batches:
            tensors = {name: torch.from_numpy(part).to(setup.device)
                       for name, part in batch.items()}  # fmt: skip
            with torch.autocast(setup.device, torch.bfloat16):
                loss = network(**tensors).loss
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            adam.step()
            yield

    return timed_steps(setup, steps())


def trainer(setup: Setup) -> tuple[float, str]:
    """Hugging Face's Trainer with ``bf16=True`` on the same batches in the same order."""
    import torch
    from transformers import (
        Trainer,
        TrainerCallback,
        TrainingArguments,
        XLMRobertaForTokenClassification,
    )

    torch.manual_seed(SEED)
    network = XLMRobertaForTokenClassification(config_of(setup.preset, num_labels=NUM_LABELS))
    tensors = [{name: torch.from_numpy(part) for name, part in batch.items()}
               for batch in setup.batches]  # fmt: skip

    class SameBatches(Trainer):
        def get_train_dataloader(self) -> Any:
            loader = torch.utils.data.DataLoader(tensors, batch_size=None)
            return self.accelerator.prepare(loader)

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == setup.num_warm:
                if setup.device == "cuda":
                    torch.cuda.synchronize()
                self.began = time.perf_counter()

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, bf16=True, max_steps=len(tensors), learning_rate=RATE, weight_decay=0.0,
            max_grad_norm=CLIP, lr_scheduler_type="constant", save_strategy="no",
            logging_strategy="no", report_to="none", disable_tqdm=True,
            use_cpu=setup.device == "cpu",
        )  # fmt: skip
        SameBatches(network, arguments, train_dataset=tensors, callbacks=[clock]).train()
    if setup.device == "cuda":
        torch.cuda.synchronize()
        return (
            time.perf_counter() - clock.began,
            f"{torch.cuda.max_memory_allocated() / 2**30:.1f}",
        )
    return time.perf_counter() - clock.began, "-"


def rows(setup: Setup) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and memory of each setting, one after the other."""
    lacking = {}
    if setup.device == "cpu":
        lacking["tf32"] = "a GPU"
    if importlib.util.find_spec("accelerate") is None:
        lacking[TRAINER] = "accelerate"
    settings: dict[str, Callable[[], tuple[float, str]]] = {
        "transformers, plain loop, autocast": lambda: plain_loop(setup),
        TRAINER: lambda: trainer(setup),
        "fp32": lambda: ours(setup, "fp32"),
        "tf32": lambda: ours(setup, "tf32"),
        "bf16-mixed": lambda: ours(setup, "bf16-mixed"),
        "bf16-mixed, batches between steps": lambda: ours(setup, "bf16-mixed", is_prefetched=False),
        "bf16-mixed, masks that are read": lambda: ours(setup, "bf16-mixed", reads_masks=True),
        "bf16-mixed, activation_checkpointing": lambda: ours(
            setup, "bf16-mixed", activation_checkpointing=True
        ),
        "bf16-mixed, compile": lambda: ours(setup, "bf16-mixed", compile=True),
        "bf16, zero_stage 1": lambda: ours(setup, "bf16", zero_stage=1),
        "bf16, zero_stage 2": lambda: ours(setup, "bf16", zero_stage=2),
    }
    for name, measure in settings.items():
        if name in lacking:
            print(f"{name}: not measured, because it needs {lacking[name]}")
        else:
            yield name, *measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="FacebookAI/xlm-roberta-base", help="an XLM-R")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=int, default=32, help="sequences of a batch")
    parser.add_argument("--length", type=int, default=128, help="most pieces of a sequence")
    parser.add_argument("--steps", type=int, default=50, help="steps that are measured")
    parser.add_argument("--warm", type=int, default=10, help="steps before them")
    parser.add_argument("--peak", type=float, default=H200_FLOPS / 1e12, help="TFLOP/s of the GPU")
    options = parser.parse_args()

    import torch

    from xlt_ray.training.process_group import join_process_group

    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU here; --device cpu tries the script with a tiny shape")
    preset = find_preset(options.model) if options.device == "cuda" else TINY
    if preset is None or preset.architecture != "xlm-roberta":
        sys.exit(f"{options.model} is not an XLM-R of `xlt list models`")
    join_process_group(0, 1, options.device)
    batches = make_batches(preset, options.rows, options.length, options.warm + options.steps)
    setup = Setup(
        preset, options.device, batches, options.warm, options.length, options.peak * 1e12
    )
    pieces, measured = setup.pieces(), list(rows(setup))
    first = measured[0][1]
    print_table(
        ("setting", "pieces/s", "to plain loop", "MFU, %", "peak, GiB"),
        [
            (
                name,
                f"{pieces / seconds:,.0f}",
                f"{first / seconds:.2f}",
                f"{100 * pieces * training_flops(preset, setup.length) / seconds / setup.peak:.1f}"
                if setup.device == "cuda"
                else "-",
                memory,
            )
            for name, seconds, memory in measured
        ],
    )


if __name__ == "__main__":
    main()
