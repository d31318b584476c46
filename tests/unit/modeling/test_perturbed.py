"""Perturbed embeddings: their size, their places, and their loss and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from tests.unit.modeling import batches
from tests.unit.modeling.batches import LENGTH, ROWS, assert_parts_add_up, gradients
from xlt_ray.config import methods
from xlt_ray.config.task_types import KINDS
from xlt_ray.modeling.network import Batch, Network, build_network
from xlt_ray.modeling.objectives.adversarial import Adversarial
from xlt_ray.modeling.objectives.perturbed import (
    LossAt,
    Perturbation,
    PerturbedNetwork,
    projected,
    robust_network,
)
from xlt_ray.modeling.objectives.smoothing import Smoothing

Encoders = Callable[..., PreTrainedModel]
SPECIAL = (0, 1, 2, 3, 4)
NORMS = ("l2", "linf")


def adversarial(norm: str = "l2", **settings: float) -> methods.AdversarialRobust:
    settings = {"steps": 2, "step_size": 0.06, "epsilon": 0.1, **settings}
    return methods.AdversarialRobust.model_validate(
        {"method": "adversarial", "norm": norm, **settings}
    )


def smoothing(norm: str = "l2", **settings: float) -> methods.RandomRobust:
    settings = {"epsilon": 0.1, "draws": 2, **settings}
    return methods.RandomRobust.model_validate({"method": "random", "norm": norm, **settings})


EVERY = [make(norm) for make in (adversarial, smoothing) for norm in NORMS]
every = pytest.mark.parametrize(
    "settings", EVERY, ids=lambda settings: f"{settings.method}-{settings.norm}"
)


def batch_of(kind: str = "pair") -> dict[str, Tensor]:
    """[CLS] words [SEP] and padding, rows of 3 to 8 pieces."""
    batch = batches.batch_of(kind)
    ids, lengths = batch["input_ids"], batch["attention_mask"].sum(dim=-1, keepdim=True)
    ids[..., 0] = 2
    ids.scatter_(-1, lengths - 1, 3)
    return {**batch, "noise_seed": torch.arange(ROWS)}


class Watched:
    """A perturbation that keeps what it was asked to perturb by."""

    def __init__(self, inner: Perturbation) -> None:
        self.inner, self.deltas, self.losses = inner, list[Tensor](), list[float]()

    def loss(self, loss_at: LossAt, may: Tensor, width: int, batch: Batch) -> Tensor:
        def watched(delta: Tensor) -> Tensor:
            self.deltas.append(delta.detach().clone())
            loss = loss_at(delta)
            self.losses.append(loss.item())
            return loss

        return self.inner.loss(watched, may, width, batch)


def plain(encoder: PreTrainedModel, kind: str = "pair") -> Network:
    return build_network(encoder, kind, methods.NoFusion(), 3, 0)


def watched(encoder: PreTrainedModel, settings: methods.Robust) -> tuple[Network, Watched]:
    inner = robust_network(plain(encoder), settings, SPECIAL)
    assert isinstance(inner, PerturbedNetwork)
    watch = Watched(inner._perturbation)
    return PerturbedNetwork(inner, watch, SPECIAL).train(), watch


def sizes(delta: Tensor, norm: str) -> Tensor:
    return delta.norm(dim=-1) if norm == "l2" else delta.abs().amax(dim=-1)


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
    epsilon=st.floats(1e-4, 1e3),
    norm=st.sampled_from(NORMS),
)
def test_a_projection_stays_within_epsilon_and_leaves_what_is_within(
    values: list[float], epsilon: float, norm: str
) -> None:
    delta = torch.tensor([[values]])
    nearest = projected(delta, epsilon, norm)
    assert sizes(nearest, norm).item() <= epsilon * (1 + 1e-7)
    if sizes(delta, norm).item() < 0.999 * epsilon:
        assert torch.equal(nearest, delta)
    assert (nearest.sign() == delta.sign())[delta.abs() > 1e-3 * delta.abs().max()].all()


@every
def test_no_perturbation_is_above_epsilon(
    toy_encoder: Encoders, settings: methods.AdversarialRobust | methods.RandomRobust
) -> None:
    network, watch = watched(toy_encoder(), settings)
    network(batch_of())
    largest = max(sizes(delta, settings.norm).max().item() for delta in watch.deltas)
    assert 0 < largest <= torch.tensor(settings.epsilon).item()
    if isinstance(settings, methods.AdversarialRobust):
        assert largest > 0.99 * settings.epsilon, "two steps of 0.06 reach the ball of 0.1"


@every
def test_padding_and_special_pieces_stay_what_they_are(
    toy_encoder: Encoders, settings: methods.Robust
) -> None:
    network, watch = watched(toy_encoder(), settings)
    batch = batch_of()
    network(batch)
    untouched = (batch["attention_mask"] == 0) | (batch["input_ids"] < 5)
    for delta in watch.deltas:
        assert (delta[untouched] == 0).all()
    assert (watch.deltas[-1][~untouched].norm(dim=-1) > 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_ascent_raises_the_loss_step_by_step(toy_encoder: Encoders, norm: str) -> None:
    size = 0.05 if norm == "l2" else 0.005
    settings = adversarial(norm, steps=3, step_size=size, epsilon=4 * size)
    network, watch = watched(toy_encoder(), settings)
    loss = network(batch_of())
    assert watch.losses == sorted(watch.losses)
    assert (
        watch.losses[-1] > watch.losses[0] == pytest.approx(plain(toy_encoder())(batch_of()).item())
    )
    assert loss.item() == watch.losses[-1]


def test_ascent_finds_the_worst_point_of_a_known_loss() -> None:
    goal = torch.tensor([[[3.0, 4.0]]])

    def loss_at(delta: Tensor) -> Tensor:
        return -(delta - goal).square().sum()

    worst = Adversarial(adversarial(steps=30)).worst(loss_at, torch.ones(1, 1, 1), 2)
    torch.testing.assert_close(worst, goal * 0.1 / 5, rtol=1e-4, atol=1e-5)
    worst = Adversarial(adversarial("linf", steps=3)).worst(loss_at, torch.ones(1, 1, 1), 2)
    torch.testing.assert_close(worst, torch.full((1, 1, 2), 0.1))


def test_a_smoothed_loss_is_the_mean_over_its_draws(toy_encoder: Encoders) -> None:
    network, watch = watched(toy_encoder(), smoothing(draws=4))
    loss = network(batch_of())
    assert len(watch.losses) == 4
    assert len(set(watch.losses)) == 4
    assert loss.item() == pytest.approx(sum(watch.losses) / 4)


@pytest.mark.parametrize("norm", NORMS)
def test_noise_fills_its_ball_evenly(norm: str) -> None:
    deltas: list[Tensor] = []

    def loss_at(delta: Tensor) -> Tensor:
        deltas.append(delta)
        return delta.sum()

    width = 2
    batch = {"noise_seed": torch.arange(50)}
    Smoothing(smoothing(norm, draws=4)).loss(loss_at, torch.ones(50, 40, 1), width, batch)
    noise = torch.cat(deltas).reshape(-1, width)
    assert noise.mean().abs() < 0.002
    inner = (sizes(noise, norm) < 0.05).float().mean()
    # A ball of half the radius holds a quarter of the plane's points.
    assert abs(inner.item() - 0.25) < 0.02


@pytest.mark.parametrize("kind", [name for name, entry in KINDS.items() if entry.is_trained])
@pytest.mark.parametrize(
    "settings",
    [adversarial("l2"), smoothing("l2"), smoothing("linf")],
    ids=lambda settings: settings.method,
)
def test_micro_batches_add_up_to_the_full_batch(
    toy_encoder: Encoders, settings: methods.Robust, kind: str
) -> None:
    network, batch = robust_network(plain(toy_encoder(), kind), settings, SPECIAL), batch_of(kind)
    parts = (slice(0, 1), slice(1, 4), slice(4, 6))
    assert_parts_add_up(network, batch, parts, rtol=1e-3, atol=1e-5)


@every
def test_weights_get_the_gradients_of_the_last_passes_alone(
    toy_encoder: Encoders, settings: methods.Robust
) -> None:
    network, watch = watched(toy_encoder(), settings)
    batch = batch_of()
    loss = network(batch)
    assert gradients(network) == {}, "finding a perturbation leaves no gradient behind"
    loss.backward()
    expected = gradients(network)
    again, _ = watched(toy_encoder(), settings)
    kept = watch.deltas[-1:] if isinstance(settings, methods.AdversarialRobust) else watch.deltas

    class Fixed:
        def loss(self, loss_at: LossAt, may: Tensor, width: int, batch: Batch) -> Tensor:
            return torch.stack([loss_at(delta) for delta in kept]).mean()

    PerturbedNetwork(again, Fixed(), SPECIAL).train()(batch).backward()
    for name, gradient in gradients(again).items():
        torch.testing.assert_close(expected[name], gradient, rtol=1e-4, atol=1e-6)


@every
def test_predictions_and_names_are_those_of_the_plain_network(
    toy_encoder: Encoders, settings: methods.Robust
) -> None:
    unperturbed = plain(toy_encoder())
    network = robust_network(unperturbed, settings, SPECIAL)
    assert [name for name, _ in network.named_parameters()] == [
        name for name, _ in unperturbed.named_parameters()
    ]
    assert torch.equal(network.predict(batch_of()), unperturbed.predict(batch_of()))
    assert torch.equal(network.eval()(batch_of()), unperturbed.eval()(batch_of()))


@every
def test_every_option_of_a_choice_is_perturbed_by_itself(
    toy_encoder: Encoders, settings: methods.AdversarialRobust | methods.RandomRobust
) -> None:
    unperturbed = build_network(toy_encoder(), "choice", methods.NoFusion(), 2, 0)
    watch = Watched(robust_network(unperturbed, settings, SPECIAL)._perturbation)  # type: ignore[attr-defined]
    batch = batch_of()
    options = {
        name: torch.stack([batch[name], batch[name].roll(1, 0)], dim=1)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    labels = {"labels": torch.zeros(ROWS).long(), "denominator": torch.tensor(float(ROWS))}
    noise = {"noise_seed": batch["noise_seed"]}
    PerturbedNetwork(unperturbed, watch, SPECIAL).train()({**options, **labels, **noise})
    moved = sizes(watch.deltas[-1], settings.norm)
    assert moved.shape == (ROWS, 2, LENGTH)
    assert 0 < moved.max() <= settings.epsilon + 1e-7
    assert (moved > 0).equal((options["attention_mask"] == 1) & (options["input_ids"] > 4))


@every
def test_a_batch_without_labelled_rows_gives_zero_loss(
    toy_encoder: Encoders, settings: methods.Robust
) -> None:
    network, batch = robust_network(plain(toy_encoder()), settings, SPECIAL), batch_of()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss = network(batch)
    loss.backward()
    assert loss.item() == 0.0
    assert all(gradient.isfinite().all() for gradient in gradients(network).values())


@every
def test_bf16_networks_give_a_float32_loss(toy_encoder: Encoders, settings: methods.Robust) -> None:
    network = robust_network(plain(toy_encoder()), settings, SPECIAL)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(batch_of())
    mixed.backward()
    network.zero_grad()
    rounded = network.to(torch.bfloat16)(batch_of())
    rounded.backward()
    for loss in (mixed, rounded):
        assert loss.dtype == torch.float32
        assert loss.isfinite()


@pytest.mark.parametrize(
    "settings",
    [methods.NoRobust(matched_steps=3), methods.AugmentRobust(method="augment")],
    ids=lambda settings: settings.method,
)
def test_methods_that_leave_the_embeddings_leave_the_network(
    toy_encoder: Encoders, settings: methods.Robust
) -> None:
    unperturbed = plain(toy_encoder())
    assert robust_network(unperturbed, settings, SPECIAL) is unperturbed
