"""Alignment objectives as networks: equations, micro-batches, refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from tests.unit.modeling.batches import assert_parts_add_up
from xlt_ray.config import methods
from xlt_ray.errors import SpecError
from xlt_ray.modeling.network import MaskedLm, hidden_states
from xlt_ray.modeling.objectives.contrastive import ContrastiveNetwork
from xlt_ray.modeling.objectives.weam import WeamNetwork

Encoders = Callable[..., PreTrainedModel]
ROWS, LENGTH = 6, 8


def sentences(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 15, (ROWS, LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) < torch.arange(3, 3 + ROWS)[:, None]).long()
    return {"input_ids": torch.where(mask == 1, ids, 0), "attention_mask": mask}


def pairs(group: int = 3) -> dict[str, Tensor]:
    translations = {f"other_{name}": tensor for name, tensor in sentences(1).items()}
    return {
        **sentences(0),
        **translations,
        "sentence": torch.arange(ROWS),
        "labels": torch.arange(ROWS) % group,
        "denominator": torch.tensor(float(ROWS)),
    }


def swapped() -> dict[str, Tensor]:
    """Piece 1 is aligned with pieces 2 and 3, everything else with itself."""
    batch = sentences(0)
    swap = torch.eye(LENGTH).repeat(ROWS, 1, 1)
    swap[:, 1] = 0.0
    swap[:, 1, [2, 3]] = 0.5
    labels = torch.where(torch.arange(LENGTH) == 1, batch["input_ids"], -100)
    labels[:, 2] = batch["input_ids"][:, 2]
    return {
        **batch,
        "swap": swap,
        "labels": labels,
        "denominator": (labels != -100).sum().float(),
    }


def settings_of(**changes: object) -> methods.Contrastive:
    return methods.Contrastive.model_validate(
        {"objective": "contrastive", "batch_size": ROWS, "group": 3, **changes}
    )


def weam_of(encoder: PreTrainedModel, weight: float = 0.5) -> MaskedLm:
    return WeamNetwork(encoder, methods.Weam(objective="weam", weight=weight), 0)


def example(
    encoder: PreTrainedModel, objective: str, **changes: object
) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network of an objective, and a batch for it."""
    if objective == "weam":
        return weam_of(encoder), swapped()
    return ContrastiveNetwork(encoder, settings_of(**changes)), pairs()


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_the_contrastive_loss_is_the_equation_of_the_docstring(
    toy_encoder: Encoders, layer: int | None
) -> None:
    encoder, batch = toy_encoder(), pairs()
    loss = ContrastiveNetwork(encoder, settings_of(layer=layer, temperature=0.2))(batch)
    vectors = []
    for prefix in ("", "other_"):
        rows = {name: batch[prefix + name] for name in ("input_ids", "attention_mask")}
        states = hidden_states(encoder, rows)[-1 if layer is None else layer]
        means = [
            tensor[: int(mask.sum())].mean(dim=0)
            for tensor, mask in zip(states, rows["attention_mask"], strict=True)
        ]
        vectors.append(torch.stack([mean / mean.norm() for mean in means]))
    expected = torch.zeros(())
    for group in (slice(0, 3), slice(3, 6)):
        cosines = vectors[0][group] @ vectors[1][group].T / 0.2
        for tensor in (cosines, cosines.T):
            expected = expected + functional.cross_entropy(tensor, torch.arange(3), reduction="sum")
    torch.testing.assert_close(loss, expected / 2 / ROWS)


def test_a_sentence_drawn_twice_is_not_its_own_negative(toy_encoder: Encoders) -> None:
    network, batch = ContrastiveNetwork(toy_encoder(), settings_of()), pairs()
    for name in list(batch):
        if name != "labels" and batch[name].dim():
            batch[name] = batch[name].clone()
            batch[name][1] = batch[name][0]
    # Row 1 doubles row 0: both choose between row 0 and row 2 alone.
    first = network({**batch, "labels": torch.tensor([0, -100, -100, -100, -100, -100])})
    cosines = network({name: tensor for name, tensor in batch.items() if name != "labels"})
    assert cosines.shape == (ROWS, 32)
    translations = {
        name.removeprefix("other_"): tensor
        for name, tensor in batch.items()
        if name.startswith("other")
    }
    theirs = network(translations)
    forward = torch.stack([cosines[0] @ theirs[0], cosines[0] @ theirs[2]]) / 0.05
    back = torch.stack([theirs[0] @ cosines[0], theirs[0] @ cosines[2]]) / 0.05
    expected = sum(-tensor.log_softmax(0)[0] for tensor in (forward, back)) / 2 / ROWS
    torch.testing.assert_close(first, expected)


@pytest.mark.parametrize("objective", ["contrastive", "weam"])
def test_micro_batches_add_up_to_the_full_batch(toy_encoder: Encoders, objective: str) -> None:
    network, batch = example(toy_encoder(), objective)
    assert_parts_add_up(network, batch, (slice(0, 3), slice(3, 6)), rtol=1e-3, atol=1e-5)


def test_layers_above_the_contrasted_one_have_zero_gradients(toy_encoder: Encoders) -> None:
    network, batch = example(toy_encoder(), "contrastive", layer=1)
    network(batch).backward()
    above = [p.grad for name, p in network.named_parameters() if "layer.1." in name]
    assert all(grad is not None and not grad.any() for grad in above)


def test_passes_hold_whole_groups(toy_encoder: Encoders) -> None:
    network, batch = ContrastiveNetwork(toy_encoder(), settings_of()), pairs()
    part = {name: tensor[:4] if tensor.dim() else tensor for name, tensor in batch.items()}
    with pytest.raises(SpecError, match=r"align\.group: a pass of 4 pairs .* groups of 3"):
        network(part)


def test_a_layer_above_the_model_is_refused(toy_encoder: Encoders) -> None:
    ContrastiveNetwork(toy_encoder(), settings_of(layer=2))
    with pytest.raises(SpecError, match=r"align\.layer.*0 \(the embeddings\) to 2"):
        ContrastiveNetwork(toy_encoder(), settings_of(layer=3))


def test_the_loss_of_weam_is_the_equation_of_the_docstring(toy_encoder: Encoders) -> None:
    network, batch = weam_of(toy_encoder(), weight=0.5), swapped()
    states = hidden_states(network.encoder, batch)[-1]

    def summed(at: Tensor, place: int) -> Tensor:
        return functional.cross_entropy(
            network.head(at), batch["input_ids"][:, place], reduction="sum"
        )

    plain = summed(states[:, 1], 1) + summed(states[:, 2], 2)
    crossed = summed((states[:, 2] + states[:, 3]) / 2, 1) + summed(states[:, 2], 2)
    torch.testing.assert_close(network(batch), (plain + 0.5 * crossed) / (2 * ROWS))


def test_weam_without_its_second_task_is_masked_lm(toy_encoder: Encoders) -> None:
    network, batch = weam_of(toy_encoder(), weight=0.0), swapped()
    plain = MaskedLm(network.encoder, network.head)
    torch.testing.assert_close(network(batch), plain(batch))
    assert torch.equal(network.predict(batch), plain.predict(batch))


@pytest.mark.parametrize("objective", ["contrastive", "weam"])
def test_bf16_networks_give_a_float32_loss_near_the_exact_one(
    toy_encoder: Encoders, objective: str
) -> None:
    network, batch = example(toy_encoder(), objective, temperature=1.0)
    exact = network(batch).detach()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(batch)
    rounded = network.to(torch.bfloat16)(batch)
    for loss in (mixed, rounded):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.detach(), exact, rtol=0.05, atol=0.05)
