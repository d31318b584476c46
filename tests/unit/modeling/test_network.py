from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests.rounding import cannot_learn
from tests.unit.modeling.batches import (
    LENGTH,
    NUM_LABELS,
    ROWS,
    assert_parts_add_up,
    batch_of,
    gradients,
)
from xlt_ray.config import methods
from xlt_ray.config.task_types import KINDS
from xlt_ray.config.trial import Ranking
from xlt_ray.errors import ModelError
from xlt_ray.modeling.heads import Head
from xlt_ray.modeling.network import (
    MaskedLm,
    Network,
    build_masked_lm,
    build_network,
    extra_state,
    hidden_states,
    load_extra,
    save_extra,
)

Encoders = Callable[..., PreTrainedModel]
NONE = methods.NoFusion()
DLFA = methods.DlfaFusion(method="dlfa", layer=0)
MIX = methods.MixFusion(method="mix")
TRAINED = [name for name, entry in KINDS.items() if entry.is_trained]
every_kind = pytest.mark.parametrize("kind", [*TRAINED, "mlm"])
every_fusion = pytest.mark.parametrize(
    "settings", [NONE, DLFA, MIX], ids=lambda tensor: tensor.method
)


def made(
    encoder: PreTrainedModel, kind: str, settings: methods.ConfigModel = NONE
) -> Network | MaskedLm:
    if kind == "mlm":
        return build_masked_lm(encoder, seed=0)
    return build_network(encoder, kind, settings, NUM_LABELS, seed=0)


@every_kind
def test_the_loss_is_the_mean_over_labelled_places(toy_encoder: Encoders, kind: str) -> None:
    network, batch = made(toy_encoder(), kind), batch_of(kind)
    logits = network.predict(batch)
    if kind == "score":
        expected = torch.nn.functional.mse_loss(logits, batch["labels"])
    elif isinstance(network.head, Head) and type(network.head).loss is not Head.loss:
        pytest.skip("a head with a loss of its own")
    else:
        expected = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), batch["labels"].reshape(-1), ignore_index=-100
        )
    torch.testing.assert_close(network(batch), expected)


@pytest.mark.parametrize("settings", [NONE, DLFA, MIX], ids=lambda settings: settings.method)
def test_a_network_keeps_the_layers_that_its_fusion_reads(
    toy_encoder: Encoders, settings: methods.ConfigModel
) -> None:
    network, batch = made(toy_encoder(), "pair", settings).eval(), batch_of("pair")
    given: list[tuple[torch.Tensor | None, ...]] = []
    network.fusion.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    fewer = network(batch)
    every = hidden_states(network.encoder, batch)
    kept = [number for number, state in enumerate(given[0]) if state is not None]
    last = len(every) - 1
    assert kept == {"none": [last], "dlfa": [0, last], "mix": [*range(last + 1)]}[settings.method]
    # The same bits as from all layers.
    fused = network.fusion(every, batch["attention_mask"])
    logits = network.head(fused, batch["attention_mask"])
    assert torch.equal(network.head.loss(logits, batch["labels"], batch["denominator"]), fewer)


@every_kind
def test_micro_batches_add_up_to_the_full_batch(toy_encoder: Encoders, kind: str) -> None:
    network, batch = made(toy_encoder(), kind, DLFA), batch_of(kind)
    parts = (slice(0, 1), slice(1, 4), slice(4, 6))
    assert_parts_add_up(network, batch, parts, rtol=1e-4, atol=1e-6)


LEAST_GRADIENT = 1e-6
"""Rounding alone gives up to this; the largest component of what learns is 5e-5 or more."""


@every_kind
def test_every_parameter_that_the_loss_depends_on_learns(toy_encoder: Encoders, kind: str) -> None:
    network = made(toy_encoder(), kind, MIX)
    network(batch_of(kind)).backward()
    silent = [
        name
        for name, parameter in network.named_parameters()
        if not cannot_learn(name, kind)
        and (parameter.grad is None or not parameter.grad.abs().max() > LEAST_GRADIENT)
    ]
    assert silent == []


@every_kind
def test_the_loss_does_not_depend_on_what_cannot_learn(toy_encoder: Encoders, kind: str) -> None:
    network, batch = made(toy_encoder(), kind, MIX).eval(), batch_of(kind)
    before = network(batch).item()
    generator = torch.Generator().manual_seed(0)
    named = [
        parameter for parameter in network.named_parameters() if cannot_learn(parameter[0], kind)
    ]
    assert len(named) >= 2, "the keys of two layers"
    for name, parameter in named:
        with torch.no_grad():
            parameter.add_(torch.rand(parameter.shape, generator=generator))
        after = network(batch).item()
        assert after == pytest.approx(before, rel=1e-4), name


@every_kind
def test_a_batch_without_labelled_places_gives_zero_loss_and_gradient(
    toy_encoder: Encoders, kind: str
) -> None:
    network, batch = made(toy_encoder(), kind), batch_of(kind)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    batch["denominator"] = torch.tensor(4.0)
    loss = network(batch)
    loss.backward()
    assert loss.item() == 0.0
    assert all(not gradient.any() for gradient in gradients(network).values())


@every_kind
@every_fusion
def test_losses_fall(toy_encoder: Encoders, kind: str, settings: methods.ConfigModel) -> None:
    network, batch = made(toy_encoder(), kind, settings), batch_of(kind)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = network(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@every_kind
def test_bf16_networks_give_a_float32_loss_near_the_exact_one(
    toy_encoder: Encoders, kind: str
) -> None:
    network, batch = made(toy_encoder(), kind, DLFA).eval(), batch_of(kind)
    exact = network(batch).detach()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(batch)
    mixed.backward()
    assert {gradient.dtype for gradient in gradients(network).values()} == {torch.float32}
    network.zero_grad()
    rounded = network.to(torch.bfloat16)(batch)
    rounded.backward()
    for loss in (mixed, rounded):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.detach(), exact, rtol=0.03, atol=0.03)


def test_predictions_have_the_shape_of_their_kind(toy_encoder: Encoders) -> None:
    encoder = toy_encoder()
    expected = {
        "tag": (ROWS, LENGTH, NUM_LABELS),
        "pair": (ROWS, NUM_LABELS),
        "score": (ROWS,),
        "choice": (ROWS, NUM_LABELS),
        "span": (ROWS, 2, LENGTH),
        "ranking": (ROWS, NUM_LABELS - 1),
        "mlm": (ROWS, LENGTH, encoder.config.vocab_size),
    }
    for kind, shape in expected.items():
        assert made(encoder, kind).predict(batch_of(kind)).shape == shape, kind


def test_new_parameters_come_from_the_seed_alone(toy_encoder: Encoders) -> None:
    first = build_network(toy_encoder(seed=1), "pair", DLFA, 3, seed=7)
    torch.rand(3)
    again = build_network(toy_encoder(seed=2), "pair", DLFA, 3, seed=7)
    other = build_network(toy_encoder(seed=1), "pair", DLFA, 3, seed=8)
    assert all(
        torch.equal(tensor, extra_state(again)[name]) for name, tensor in extra_state(first).items()
    )
    assert not torch.equal(first.head.output.weight, other.head.output.weight)
    assert not torch.equal(first.fusion.local.down.weight, other.fusion.local.down.weight)


def test_the_head_is_the_same_whatever_the_fusion(toy_encoder: Encoders) -> None:
    plain = build_network(toy_encoder(), "pair", NONE, 3, seed=0)
    fused = build_network(toy_encoder(), "pair", DLFA, 3, seed=0)
    assert torch.equal(plain.head.output.weight, fused.head.output.weight)


def test_building_draws_no_random_numbers(toy_encoder: Encoders) -> None:
    encoder = toy_encoder()
    before = torch.get_rng_state()
    build_network(encoder, "tag", DLFA, 3, seed=0)
    build_masked_lm(encoder, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_masked_lm_shares_the_embeddings(toy_encoder: Encoders) -> None:
    network = build_masked_lm(toy_encoder(), seed=0)
    table = network.encoder.get_input_embeddings().weight
    assert network.head.tied is table
    network.to(torch.bfloat16)
    assert network.head.tied is network.encoder.get_input_embeddings().weight
    names = [name for name, tensor in network.named_parameters() if tensor is network.head.tied]
    assert len(names) == 1


@every_kind
@every_fusion
def test_extra_parameters_come_back(
    toy_encoder: Encoders, tmp_path: Path, kind: str, settings: methods.ConfigModel
) -> None:
    network, batch = made(toy_encoder(), kind, settings), batch_of(kind)
    with torch.no_grad():
        for tensor in extra_state(network).values():
            tensor.mul_(1.1).add_(0.01)
    save_extra(network, tmp_path / "extra.safetensors")
    fresh = made(toy_encoder(), kind, settings)
    assert not torch.equal(fresh.predict(batch), network.predict(batch))
    load_extra(fresh, tmp_path / "extra.safetensors")
    assert torch.equal(fresh.predict(batch), network.predict(batch))


@every_kind
def test_every_parameter_is_extra_or_the_encoders(toy_encoder: Encoders, kind: str) -> None:
    network = made(toy_encoder(), kind, DLFA)
    named = {name for name, _ in network.named_parameters()}
    assert {name for name in named if not name.startswith("encoder.")} == extra_state(
        network
    ).keys()


def test_extra_parameters_of_another_shape_are_refused(
    toy_encoder: Encoders, tmp_path: Path
) -> None:
    file = tmp_path / "extra.safetensors"
    save_extra(build_network(toy_encoder(), "tag", NONE, 3, seed=0), file)
    with pytest.raises(ModelError, match=r"head\.output\.bias is \(3,\) in the file, \(4,\)"):
        load_extra(build_network(toy_encoder(), "tag", NONE, 4, seed=0), file)
    with pytest.raises(ModelError, match="is None in the file"):
        load_extra(build_network(toy_encoder(), "tag", DLFA, 3, seed=0), file)


def test_a_damaged_extra_file_is_refused(toy_encoder: Encoders, tmp_path: Path) -> None:
    (tmp_path / "extra.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        load_extra(
            build_network(toy_encoder(), "tag", NONE, 3, seed=0), tmp_path / "extra.safetensors"
        )


def test_an_option_is_scored_without_looking_at_the_others(toy_encoder: Encoders) -> None:
    network, batch = made(toy_encoder(), "choice", DLFA).eval(), batch_of("choice")
    logits = network.predict(batch)
    two = {name: tensor[:, :2] for name, tensor in batch.items() if tensor.dim() == 3}
    torch.testing.assert_close(network.predict(two), logits[:, :2], rtol=1e-4, atol=1e-5)
    turned = {name: tensor.flip(1) for name, tensor in batch.items() if tensor.dim() == 3}
    torch.testing.assert_close(network.predict(turned), logits.flip(1), rtol=1e-4, atol=1e-5)


def test_a_span_never_begins_or_ends_in_padding(toy_encoder: Encoders) -> None:
    network, batch = made(toy_encoder(), "span", MIX).eval(), batch_of("span")
    likeliest = network.predict(batch).argmax(-1)
    assert (likeliest < batch["attention_mask"].sum(1, keepdim=True)).all()


@pytest.mark.parametrize("temperature", [0.05, 0.01, 1.0])
def test_the_loss_of_a_ranking_is_a_softmax_over_cosines_by_the_temperature(
    toy_encoder: Encoders, temperature: float
) -> None:
    network = build_network(toy_encoder(), "ranking", NONE, 0, 0, Ranking(temperature=temperature))
    network.eval()
    batch = batch_of("ranking")
    loss = network({**batch, "denominator": torch.tensor(float(ROWS))})
    losses = []
    for pieces, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        states = hidden_states(network.encoder, {"input_ids": pieces, "attention_mask": mask})[-1]
        means = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        query, *candidates = means / means.norm(dim=1, keepdim=True)
        odds = [math.exp(float(query @ candidate) / temperature) for candidate in candidates]
        losses.append(-math.log(odds[0] / sum(odds)))
    assert float(loss) == pytest.approx(statistics.fmean(losses), rel=1e-4)
