"""Merges of weights by worked examples, and files that are merged tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, tensor

from xlt_ray.config.methods import MERGES, ArithmeticMerge, LayerSwapMerge, MeanMerge, TiesMerge
from xlt_ray.errors import ModelError
from xlt_ray.modeling.merging import Part, merge_files
from xlt_ray.modeling.merging.arithmetic import arithmetic
from xlt_ray.modeling.merging.mean import mean
from xlt_ray.modeling.merging.ties import ties

BASE = tensor([1.0, 1.0, 1.0, 1.0, 1.0])


def part(*members: list[float]) -> Part:
    return Part("weight", [tensor(values) for values in members], BASE)


def test_means_and_sums_of_changes() -> None:
    two = part([1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 2.0, 1.0, 0.0, -1.0])
    assert mean(two, MeanMerge()).tolist() == [2.0, 2.0, 2.0, 2.0, 2.0]
    half = ArithmeticMerge(method="arithmetic", scale=0.5)
    assert arithmetic(two, half).tolist() == [2.0, 2.0, 2.0, 2.0, 2.0]
    one = part([1.0, 2.0, 3.0, 4.0, 5.0])
    assert arithmetic(one, half).tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]


def test_ties_trims_elects_a_sign_and_averages_what_agrees() -> None:
    """Changes (5, -4, 3, 0.1, -2), (-1, -2, 4, 5, 0.1) and (4, 6, 0.1, -0.1, 3), of each the three
    largest: (5, -4, 3, -, -), (-, -2, 4, 5, -) and (4, 6, -, -, 3). The second number has a sum of
    0, so no sign."""
    three = part([6.0, -3.0, 4.0, 1.1, -1.0], [0.0, -1.0, 5.0, 6.0, 1.1], [5.0, 7.0, 1.1, 0.9, 4.0])
    settings = TiesMerge(method="ties", density=0.6)
    torch.testing.assert_close(ties(three, settings), BASE + tensor([4.5, 0.0, 3.5, 5.0, 3.0]))
    # Half of a change in which the two larger ones prevail against the third.
    against = part([3.0, 1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, 1.0, 1.0])
    settings = TiesMerge(method="ties", density=1.0, scale=0.5)
    assert ties(against, settings).tolist() == [1.75, 1.0, 1.0, 1.0, 1.0]


def network(value: float) -> dict[str, Tensor]:
    names = ["embeddings.word_embeddings.weight", "pooler.dense.weight"]
    names += [f"encoder.layer.{number}.output.dense.weight" for number in range(4)]
    return {name: torch.full((2, 3), value + n) for n, name in enumerate(names)}


def test_a_file_is_written_as_the_library_reads_it(tmp_path: Path) -> None:
    for number, state in enumerate((network(0.0), network(1.0))):
        state["embeddings.position_ids"] = torch.arange(number, number + 5)
        state["narrow"] = torch.full((3,), 1.0 + number, dtype=torch.bfloat16)
        save_file(state, tmp_path / f"{number}.safetensors", {"format": "pt"})
    files = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    merge_files(files, None, MeanMerge(), tmp_path / "merged.safetensors")
    merged = load_file(tmp_path / "merged.safetensors")
    assert merged.pop("embeddings.position_ids").tolist() == [0, 1, 2, 3, 4]
    narrow = merged.pop("narrow")
    assert narrow.dtype == torch.bfloat16
    assert narrow.tolist() == [1.5] * 3
    assert {name: found.tolist() for name, found in merged.items()} == {
        name: expected.tolist() for name, expected in network(0.5).items()
    }


def test_layers_of_a_language_model_in_a_task_model(tmp_path: Path) -> None:
    for number in range(2):
        save_file(network(100.0 * number), tmp_path / f"{number}.safetensors")
    files = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]

    def swapped(bottom: int, top: int) -> list[str]:
        settings = LayerSwapMerge(method="layer-swap", bottom=bottom, top=top)
        merge_files(files, None, settings, tmp_path / "merged.safetensors")
        merged = load_file(tmp_path / "merged.safetensors")
        return [name for name in network(0.0) if float(merged[name].max()) >= 100]

    embeddings, _, *layers = network(0.0)
    assert swapped(0, 0) == []
    assert swapped(1, 2) == [embeddings, layers[0], *layers[2:]]
    assert swapped(0, 1) == layers[3:]
    with pytest.raises(ModelError, match="of 4 layers 2 \\+ 2 cannot be swapped"):
        swapped(2, 2)


def test_networks_of_other_shapes_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "0.safetensors")
    save_file({"a": torch.zeros(2), "b": torch.zeros(3)}, tmp_path / "1.safetensors")
    files = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    with pytest.raises(ModelError, match="tensor b is not as in"):
        merge_files(files, None, MeanMerge(), tmp_path / "merged.safetensors")


def test_every_method_has_an_implementation_and_a_source() -> None:
    for entry in MERGES:
        assert callable(entry.load())
        assert entry.source.startswith("arXiv ")
