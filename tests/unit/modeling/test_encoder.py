from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from tests.unit.modeling.conftest import write_model, write_tokenizer
from xlt_ray.config.trial import Model
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import (
    load_encoder,
    load_saved,
    load_tokenizer,
    save_encoder,
    seeded,
)

TEXTS = ["the cat sat on the mat", "dogs"]


def states(encoder: PreTrainedModel, tokenizer: Any) -> tuple[torch.Tensor, ...]:
    encoder.eval()
    with torch.no_grad():
        return encoder(
            **tokenizer(TEXTS, padding=True, return_tensors="pt"), output_hidden_states=True
        ).hidden_states


def assert_equal_bits(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> None:
    assert len(first) == len(second) > 1
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def perturbed(encoder: PreTrainedModel) -> PreTrainedModel:
    """Weights that are nobody's initial ones, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return encoder


def check_round_trip(model: Model, vocabulary: tuple[str, ...] | None, place: Path) -> None:
    tokenizer = load_tokenizer(model, vocabulary)
    encoder = perturbed(load_encoder(model, tokenizer, 0))
    save_encoder(encoder, tokenizer, place)
    expected = states(encoder, tokenizer)
    assert_equal_bits(states(*load_saved(place)), expected)
    plain = AutoModel.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    assert_equal_bits(states(*plain), expected)
    assert {file.name for file in place.iterdir()} >= {"config.json", "model.safetensors"}


def test_saved_and_loaded_encoders_give_equal_bits(folder: Path, tmp_path: Path) -> None:
    check_round_trip(Model(name=str(folder)), None, tmp_path / "saved")


def test_saved_and_loaded_presets_give_equal_bits(tmp_path: Path) -> None:
    check_round_trip(Model(name="toy:2x32"), ("the", "cat", "mat"), tmp_path / "saved")


def test_saved_and_loaded_real_encoders_give_equal_bits(real_folder: Path, tmp_path: Path) -> None:
    check_round_trip(Model(name=str(real_folder)), None, tmp_path / "saved")


def test_encoders_come_whole_in_float32_and_without_pooler(folder: Path) -> None:
    model = Model(name=str(folder))
    encoder = load_encoder(model, load_tokenizer(model, None), 0)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]
    assert encoder.training


def test_half_precision_weights_are_widened(folder: Path, tmp_path: Path) -> None:
    model = Model(name=str(folder))
    tokenizer = load_tokenizer(model, None)
    save_encoder(load_encoder(model, tokenizer, 0).bfloat16(), tokenizer, tmp_path / "half")
    encoder, _ = load_saved(tmp_path / "half")
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    model = Model(name=str(folder))
    before = torch.get_rng_state()
    load_encoder(model, load_tokenizer(model, None), 0)
    load_encoder(Model(name="toy:1x32"), load_tokenizer(Model(name="toy:1x32"), ("a",)), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_and_name_alone_decide_what_is_drawn_and_the_generator_is_put_back() -> None:
    def drawn(seed: int, name: str) -> torch.Tensor:
        with seeded(seed, name):
            return torch.rand(4)

    first, before = drawn(1, "head"), torch.get_rng_state()
    assert torch.equal(first, drawn(1, "head"))
    assert not torch.equal(first, drawn(2, "head"))
    assert not torch.equal(first, drawn(1, "fusion"))
    with pytest.raises(ZeroDivisionError), seeded(1, "head"):
        _ = 1 / torch.rand(3).numel() / 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("named", [True, False])
def test_every_word_of_a_list_begins_as_after_a_space(
    family: str, named: bool, tmp_path: Path
) -> None:
    write_tokenizer(family, tmp_path, named=named)
    write_model(family, tmp_path)
    tokenizer = load_tokenizer(Model(name=str(tmp_path)), None)
    words = ["the", "cat", "sat"]
    together = tokenizer(words, is_split_into_words=True, add_special_tokens=False)["input_ids"]
    text = tokenizer("mat the cat sat", add_special_tokens=False)["input_ids"]
    assert together == text[-len(together) :]
    tokenizer.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again(words, is_split_into_words=True, add_special_tokens=False)["input_ids"] == together


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_missing_weights_are_refused_by_name(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = Model(name=str(folder))
    with pytest.raises(ModelError, match=r"layer\.1\.output\.dense\.weight"):
        load_encoder(model, load_tokenizer(model, None), 0)


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_a_tokenizer_larger_than_the_encoder_is_refused(folder: Path) -> None:
    write_model("bert", folder, vocab_size=9)
    model = Model(name=str(folder))
    with pytest.raises(ModelError, match="do not belong together"):
        load_encoder(model, load_tokenizer(model, None), 0)


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(Model(name=str(folder)), None)


def test_a_tokenizer_is_loaded_once_whichever_folder_has_its_files(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        write_tokenizer("bert", tmp_path / name)
    file = tmp_path / "third" / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    first, second, third = (
        load_tokenizer(Model(name=str(tmp_path / name)), None)
        for name in ("first", "second", "third")
    )
    assert first.backend_tokenizer is second.backend_tokenizer
    assert first.backend_tokenizer is not third.backend_tokenizer


def test_settings_of_one_tokenizer_are_not_those_of_the_next(tmp_path: Path) -> None:
    write_tokenizer("bert", tmp_path)
    model = Model(name=str(tmp_path))
    first = load_tokenizer(model, None)
    before = list(first.model_input_names)
    first.model_input_names = first.init_kwargs["model_input_names"] = ["input_ids"]
    second = load_tokenizer(model, None)
    assert second.model_input_names == before
    assert second.init_kwargs.get("model_input_names") in (None, before)
