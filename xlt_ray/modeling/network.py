"""The two networks that are trained: encoder + fusion + head, and masked language modelling.

Both share one call, so that one training loop serves both:

- ``network(batch)`` is the loss, a float32 scalar. ``batch`` maps names to tensors:
  ``input_ids`` and ``attention_mask`` ``(batch, length)``, ``token_type_ids`` where the model
  has them, ``labels`` as the head takes them, -100 where nothing is predicted, and the scalar
  ``denominator``. The loss is a sum over labels other than -100 *divided by the denominator*:
  given the number of labels in the full batch, the losses (and gradients) of micro-batches add
  up to those of the full batch.
- ``network(batch)`` without ``labels`` is the logits, and ``network.predict(batch)`` is short
  for that.

New parameters come from the seed alone, whatever was drawn or built before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from xlt_ray.config.methods import FUSIONS, Alignment, ConfigModel
from xlt_ray.config.task_types import KINDS, TaskKind
from xlt_ray.config.trial import Ranking
from xlt_ray.errors import ModelError
from xlt_ray.modeling.encoder import (
    POOLED_FAMILIES,
    POOLING,
    PREDICTS_NEXT,
    begin_with_pooler,
    inputs_of,
    seeded,
)
from xlt_ray.modeling.heads import IGNORED, Head, PairHead, summed_loss

Batch = Mapping[str, Tensor]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def hidden_states(
    encoder: PreTrainedModel, batch: Batch, layers: Iterable[int] | None = None
) -> tuple[Tensor, ...]:
    """Embeddings and every layer, ``num_layers + 1`` tensors ``(batch, length, hidden)``.

    If ``layers`` are named (0: the embeddings, -1: the last), others are not kept in memory and may
    be None.
    """
    states: tuple[Tensor, ...] = encoder(
        **inputs_of(encoder, batch),
        # A list of layers is as good as True where transformers cannot select.
        output_hidden_states=True if layers is None else list(layers),
        return_dict=True,
    ).hidden_states
    return states


def last_states(encoder: PreTrainedModel, batch: Batch) -> Tensor:
    """States of the last layer, ``(batch, length, hidden)``."""
    return hidden_states(encoder, batch, (-1,))[-1]


def predicting_states(encoder: PreTrainedModel, states: Tensor) -> Tensor:
    """The states that pieces are predicted from, of those of the last layer, ``(batch, length,
    hidden)``: their own, or those of the pieces before them, as decoder-only models were trained
    (masked next token prediction, arXiv 2404.05961). The first piece has none before it."""
    if getattr(encoder.config, PREDICTS_NEXT, False):
        return torch.cat([states[:, :1], states[:, :-1]], dim=1)
    return states


class _Predicts(nn.Module):
    def predict(self, batch: Batch) -> Tensor:
        """Logits, whatever labels the batch has."""
        logits: Tensor = self({name: part for name, part in batch.items() if name != "labels"})
        return logits


class Network(_Predicts):
    """Encoder, fusion and head; the shape of the logits is the head's.

    Pieces may be ``(batch, options, length)``: every option is encoded and fused by itself.
    """

    def __init__(self, encoder: PreTrainedModel, fusion: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.fusion = fusion
        self.head = head

    def forward(self, batch: Batch) -> Tensor:
        shape = batch["input_ids"].shape
        rows = {name: batch[name].reshape(-1, shape[-1]) for name in INPUTS if name in batch}
        states = hidden_states(self.encoder, rows, getattr(self.fusion, "layers", None))
        fused = self.fusion(states, rows["attention_mask"])
        logits: Tensor = self.head(fused.reshape(*shape, -1), batch["attention_mask"])
        if "labels" not in batch:
            return logits
        return self.head.loss(logits, batch["labels"], batch["denominator"])


class MaskedLmHead(nn.Module):
    """BERT's head for masked pieces: dense, GELU, norm, product with the input embeddings.

    The embedding matrix is a parameter of this module *and* of the encoder's embeddings, not
    reached through the encoder, so that ZeRO 3 gathers it for either.
    """

    def __init__(self, hidden_size: int, embeddings: nn.Embedding) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, embeddings.embedding_dim)
        self.norm = nn.LayerNorm(embeddings.embedding_dim)
        self.tied = embeddings.weight
        self.bias = nn.Parameter(torch.zeros(embeddings.num_embeddings))

    def forward(self, states: Tensor) -> Tensor:
        states = self.norm(functional.gelu(self.dense(states)))
        return functional.linear(states, self.tied, self.bias)


class NextPieceHead(nn.Module):
    """The product with the input embeddings, as of decoder-only models that tie the two."""

    def __init__(self, embeddings: nn.Embedding) -> None:
        super().__init__()
        self.tied = embeddings.weight

    def forward(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.tied)


class MaskedLm(_Predicts):
    """Encoder and masked-LM head; logits ``(batch, length, vocabulary)``.

    The loss is ``- sum over i in M of log p(x_i | H_i)``, with M the positions to be predicted, x
    the pieces there before they were hidden, and H the :func:`predicting_states` (arXiv 1810.04805,
    section 3.1). It computes logits only at labelled pieces, about one in six. Without labels, a
    mask ``is_predicted`` ``(batch, length)`` does the same: ``(num_predicted, vocabulary)``.
    """

    def __init__(self, encoder: PreTrainedModel, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, batch: Batch) -> Tensor:
        states = predicting_states(self.encoder, last_states(self.encoder, batch))
        if "labels" not in batch:
            if "is_predicted" in batch:
                states = states[batch["is_predicted"]]
            logits: Tensor = self.head(states)
            return logits
        is_masked = batch["labels"] != IGNORED
        logits = self.head(states[is_masked])
        return summed_loss(logits, batch["labels"][is_masked], batch["denominator"])


def build_network(
    encoder: PreTrainedModel,
    kind: TaskKind,
    fusion_settings: ConfigModel,
    num_labels: int,
    seed: int,
    ranking: Ranking | None = None,
) -> Network:
    """A new fusion and head on ``encoder``, in training mode.

    ``ranking`` says how a head of that kind begins. The head is the same for every fusion at equal
    seed. Raises SpecError if the fusion does not fit the encoder (:mod:`xlt_ray.modeling.fusion`).
    """
    config = encoder.config
    entry = next(entry for entry in FUSIONS if type(fusion_settings) is entry.settings)
    with seeded(seed, "fusion"):
        fusion = entry.load()(config.num_hidden_layers, config.hidden_size, fusion_settings)
    with seeded(seed, "head"):
        head = build_head(kind, encoder, num_labels, ranking)
    return Network(encoder, fusion, head).train()


def build_head(
    kind: TaskKind, encoder: PreTrainedModel, num_labels: int, ranking: Ranking | None
) -> Head:
    """A new head of a kind of task on ``encoder``; its parameters come from torch's state.

    As in the classes of transformers: weights are normal with the encoder's ``initializer_range``,
    biases zero, and what stands for BERT's pooler begins with it.
    """
    head_class = KINDS[kind].load_head()
    options: dict[str, Any] = {}
    if ranking and kind == "ranking":
        options["temperature"] = ranking.temperature
    if issubclass(head_class, PairHead):
        options["drops_states"] = encoder.config.model_type not in POOLED_FAMILIES
        options["pooling"] = getattr(encoder.config, POOLING, "first")
    head: Head = head_class(
        encoder.config.hidden_size, num_labels, head_dropout(encoder), **options
    )
    begin_linear_layers(head, encoder)
    begin_with_pooler(head, encoder)
    return head


def begin_linear_layers(module: nn.Module, encoder: PreTrainedModel) -> None:
    """Draw the weights of all linear layers as the encoder's own were (0.02 in BERT and XLM-R)."""
    spread = getattr(encoder.config, "initializer_range", 0.02)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)


def build_masked_lm(encoder: PreTrainedModel, seed: int) -> MaskedLm:
    """A new masked-LM head on ``encoder``, in training mode."""
    return MaskedLm(encoder, masked_lm_head(encoder, seed)).train()


def masked_lm(encoder: PreTrainedModel, _: Alignment, seed: int) -> MaskedLm:
    """:func:`build_masked_lm` for an alignment objective."""
    return build_masked_lm(encoder, seed)


def masked_lm_head(encoder: PreTrainedModel, seed: int) -> MaskedLmHead | NextPieceHead:
    """A new head that is tied to the embeddings of ``encoder``."""
    embeddings = encoder.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding), "an encoder reads pieces through one table"
    if getattr(encoder.config, PREDICTS_NEXT, False):
        return NextPieceHead(embeddings)
    with seeded(seed, "masked-lm"):
        head = MaskedLmHead(encoder.config.hidden_size, embeddings)
        begin_linear_layers(head, encoder)
    return head


def head_dropout(encoder: PreTrainedModel) -> float:
    """Dropout of a head: the one configured for classifiers, else that of hidden states."""
    for name in (
        "classifier_dropout",
        "classifier_dropout_prob",
        "seq_classif_dropout",
        "hidden_dropout_prob",
        "dropout",
    ):
        configured = getattr(encoder.config, name, None)
        if configured is not None:
            return float(configured)
    return 0.0


def extra_state(network: nn.Module) -> dict[str, Tensor]:
    """Name to tensor of all that is not the encoder's: fusion and heads, tied weights left out."""
    encoder = {id(parameter) for parameter in network.get_submodule("encoder").parameters()}
    return {
        name: tensor.detach()
        for name, tensor in network.state_dict(keep_vars=True).items()
        if not name.startswith("encoder.") and id(tensor) not in encoder
    }


def save_extra(network: nn.Module, path: Path) -> None:
    """Write :func:`extra_state` to ``path`` as safetensors."""
    state = extra_state(network)
    save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, path)


def load_extra(network: nn.Module, path: Path) -> None:
    """Read what :func:`save_extra` wrote into a network of the same shape; else ModelError."""
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot be read ({error})", model=str(path)) from error
    state = extra_state(network)
    for name in sorted({*state, *saved}):
        in_file, in_network = (
            tuple(tensors[name].shape) if name in tensors else None for tensors in (saved, state)
        )
        if in_file != in_network:
            raise ModelError(
                f"{name} is {in_file} in the file, {in_network} in the network",
                model=str(path),
                remedy="fusion, labels and width must be those that were saved",
            )
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(saved[name])
