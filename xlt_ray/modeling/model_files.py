"""Whether the files of a model folder fit together, from their headers: no weight is loaded.

A safetensors file begins with the length of its header, 8 bytes, and the header, JSON with the
place of every tensor (https://github.com/huggingface/safetensors, README).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlt_ray.config.trial import Model
from xlt_ray.modeling.toy_models import is_toy

_LENGTH = 8
_LONGEST_HEADER = 10**8
_POINTER = b"version https://git-lfs"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm", "tokenizer*")
_TABLES = (
    "word_embeddings.weight", "wte.weight", "embed_tokens.weight", "tok_embeddings.weight",
)  # fmt: skip
"""Ends of the names of the tables of pieces, which differ by family."""
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h)\.(\d+)\.")


def folder_faults(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """File, fault and remedy of everything in a model folder that cannot be loaded.

    Of tokenizers only a ``tokenizer.json`` is read; other tokenizer files have to exist.
    """
    again = "copy it again"
    tensors: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        header, fault = _header(file)
        if fault:
            yield file, fault, again
        tensors |= header
    for file in sorted(folder.glob("*.safetensors.index.json")):
        index = _json(file)
        if index is None:
            yield file, "is not a JSON object", again
            continue
        for name in sorted(set((index.get("weight_map") or {}).values())):
            if not (folder / name).is_file():
                yield folder / name, f"is not there, and {file.name} names it", again
    config = _json(folder / "config.json") or {}
    for problem in _mismatches(config, tensors):
        yield folder / "config.json", problem, "weights and configuration of one model"
    if not any(True for pattern in _TOKENIZERS for _ in folder.glob(pattern)):
        yield folder, "has no tokenizer", "save it beside the weights with save_pretrained"
    file, size = folder / "tokenizer.json", config.get("vocab_size")
    if file.is_file():
        pieces = _num_pieces(file)
        if pieces is None:
            yield file, "is not the JSON of a tokenizer", again
        elif isinstance(size, int) and pieces > size:
            problem = f"has {pieces:,} pieces, and the encoder {size:,} (vocab_size)"
            yield file, problem, "tokenizer and weights of one model"


def _mismatches(config: dict[str, Any], tensors: dict[str, Any]) -> Iterator[str]:
    """Numbers of a configuration that differ from those of the weights."""
    size, width, depth = map(config.get, ("vocab_size", "hidden_size", "num_hidden_layers"))
    tables = {
        name: tensor["shape"]
        for name, tensor in tensors.items()
        if name.endswith(_TABLES) and tensor.get("shape")
    }
    rows = next(((name, shape[0]) for name, shape in tables.items() if shape[0] != size), None)
    if rows and isinstance(size, int):
        yield f"vocab_size is {size:,}, and {rows[0]} has {rows[1]:,} rows"
    columns = next(
        ((name, shape[-1]) for name, shape in tables.items() if shape[-1] != width), None
    )
    # Word embeddings of some families are narrower than the encoder.
    if columns and isinstance(width, int) and not any("embedding_size" in key for key in config):
        yield f"hidden_size is {width:,}, and {columns[0]} is {columns[1]:,} wide"
    layers = {int(match[1]) for name in tensors if (match := _LAYER.search(name))}
    if layers and isinstance(depth, int) and max(layers) + 1 < depth:
        yield f"num_hidden_layers is {depth}, and there are weights of {max(layers) + 1}"


def _header(file: Path) -> tuple[dict[str, Any], str]:
    """Tensors of a safetensors file by name, and what is wrong with it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        begin = stream.read(len(_POINTER))
        if begin == _POINTER:
            return {}, "is a pointer of git-lfs, not the weights (run git lfs pull)"
        length = int.from_bytes(begin[:_LENGTH], "little")
        if size < _LENGTH or length > _LONGEST_HEADER:
            return {}, "is not a safetensors file"
        stream.seek(_LENGTH)
        content = stream.read(length)
    try:
        header = json.loads(content)
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return {}, "is not a safetensors file, or it is cut off in its header"
    expected = _LENGTH + length + end
    if expected != size:
        return header, f"has {size:,} bytes, and its header tells of {expected:,}: it is cut off"
    return header, ""


def _num_pieces(file: Path) -> int | None:
    """Pieces of a ``tokenizer.json``, added ones included; None if it is not a tokenizer."""
    tokenizer = _json(file) or {}
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list):
        return None
    known = {entry[0] for entry in vocabulary} if isinstance(vocabulary, list) else set(vocabulary)
    return len(known | {token["content"] for token in tokenizer.get("added_tokens") or []})


def _json(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def tokenizer_file(model: Model) -> Path | None:
    """The ``tokenizer.json`` of a model on this machine, in its folder or in the hub's cache."""
    folder = Path(model.name).expanduser()
    if folder.is_dir():
        file = folder / "tokenizer.json"
        return file if file.is_file() else None
    if is_toy(model.name):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model.name, "tokenizer.json", revision=model.revision)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None
