"""One network from the weights of several, without training; one method a file.

A method is a function ``(part, settings) -> Tensor`` that is called for every tensor of
floating-point numbers by itself, with all that the networks have there (:class:`Part`).
:func:`merge_files` reads and writes the files, so that no whole network is ever in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from xlt_ray.config.methods import MERGES, Merge
from xlt_ray.errors import ModelError

_LAYER = re.compile(r"\blayers?\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """One tensor of all networks, of one shape and in float32."""

    name: str
    members: Sequence[torch.Tensor]
    base: torch.Tensor | None
    """What the trainings began with; None unless the settings' ``needs_base``."""
    layer: int | None = None
    """1 for the lowest layer, 0 for the embeddings, None for the rest (pooler, fusion, head)."""
    num_layers: int = 0
    """Of the whole file; 0 if it has none."""


def merge_files(members: Sequence[Path], base: Path | None, settings: Merge, place: Path) -> None:
    """Merge safetensors files of equal names and shapes into ``place``, tensor by tensor.

    In memory are one tensor of every file and the result. Integers are those of the first member.

    Raises:
        ModelError: a file has other tensors, or another shape of one.
    """
    method = next(entry for entry in MERGES if type(settings) is entry.settings).load()
    with ExitStack() as stack:
        files = [
            stack.enter_context(safe_open(path, framework="pt"))
            for path in (*members, *([] if base is None else [base]))
        ]
        shapes = [_shapes(file) for file in files]
        for path, other in zip((*members[1:], base), shapes[1:], strict=False):
            if other != shapes[0]:
                name = min(dict(shapes[0].items() ^ other.items()))
                raise ModelError(f"tensor {name} is not as in {members[0]}", model=str(path))
        layers = {name: _layer_of(name) for name in shapes[0]}
        num_layers = max((layer or 0 for layer in layers.values()), default=0)

        def merged() -> Iterator[tuple[str, torch.Tensor]]:
            for name, layer in layers.items():
                first, *others = [file.get_tensor(name) for file in files]
                if first.is_floating_point():
                    wide = [tensor.float() for tensor in (first, *others)]
                    of_base = None if base is None else wide.pop()
                    result = method(Part(name, wide, of_base, layer, num_layers), settings)
                    first = result.to(first.dtype)
                yield name, first

        _write(place, dict(shapes[0]), merged(), files[0].metadata())


def _shapes(file: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    slices = {name: file.get_slice(name) for name in sorted(file.keys())}
    return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def _layer_of(name: str) -> int | None:
    """The layer that a tensor of an encoder belongs to.

    >>> [_layer_of(n) for n in ("encoder.layer.0.output.bias", "embeddings.norm.weight", "fc.bias")]
    [1, 0, None]
    """
    match = _LAYER.search(name)
    if match is not None:
        return int(match[1]) + 1
    return 0 if "embedding" in name else None


def _write(
    place: Path,
    shapes: Mapping[str, tuple[str, tuple[int, ...]]],
    tensors: Iterator[tuple[str, torch.Tensor]],
    metadata: Mapping[str, str] | None,
) -> None:
    """Write a safetensors file of tensors that come one by one, in the order of ``shapes``.

    The library's own writer wants all of them at once; the format is a length, a header of JSON,
    and the bytes one after another (https://github.com/huggingface/safetensors).
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, (dtype, shape) in shapes.items():
        end = begin + _WIDTHS[dtype] * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with place.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in tensors:
            file.write(_bytes(tensor))


_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
           "U8": 1, "BOOL": 1}  # fmt: skip


def _bytes(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor as the format has them."""
    written = save({"tensor": tensor.contiguous()})
    return written[8 + int.from_bytes(written[:8], "little") :]
