"""Masked LM scored language by language, on parallel text that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from xlt_ray.data.collate import Batch
from xlt_ray.modeling.losses import IGNORED
from xlt_ray.modeling.network import MaskedLm


def masked_scores(network: nn.Module, batches: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    """``masked_accuracy/LANGUAGE``: share of the hidden pieces that are predicted; besides its
    mean over languages and that of the mean loss of each (nats a piece).

    Every worker scores all of it: ZeRO 3 gathers a layer where all workers call it.
    """
    assert isinstance(network, MaskedLm), "an objective that predicts hidden pieces"
    device = next(network.parameters()).device
    accuracies, losses = {}, []
    for language, parts in batches.items():
        right = asked = 0
        loss = 0.0
        for part in parts:
            tensors = {name: torch.from_numpy(one).to(device) for name, one in part.items()}
            labels = tensors.pop("labels")
            logits = network({**tensors, "asked": labels != IGNORED}).float()
            labels = labels[labels != IGNORED]
            right += int((logits.argmax(dim=-1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
            asked += len(labels)
        accuracies[language] = right / asked
        losses.append(loss / asked)
    return {
        "masked_accuracy/mean": sum(accuracies.values()) / len(accuracies),
        "masked_loss/mean": sum(losses) / len(losses),
        **{f"masked_accuracy/{language}": one for language, one in accuracies.items()},
    }
