"""Whether an encoder reads both ways, found by trying: what a decoder-only model does not.

In a causal model no piece sees those after it. The first piece stands for a sentence in the heads
of pairs, scores and choices, and would be the same for every sentence; tags would not see what
follows. So causal models are refused until they are supported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedModel

from xlt_ray.errors import ModelError, nearest
from xlt_ray.modeling.fresh_parameters import seeded

_SMALL = {
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "vocab_size": 64,
    "intermediate_size": 64,
}
"""What is made smaller to try a configuration; who sees whom does not follow from it."""


def reads_both_ways(encoder: PreTrainedModel) -> bool:
    """Whether the last state of a sentence's first piece changes with its last piece."""
    highest = encoder.config.vocab_size - 1
    sentence = torch.tensor([[highest - 3, highest - 2, highest - 1]])
    other = torch.tensor([[highest - 3, highest - 2, highest]])
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            first, second = (
                encoder(input_ids=one, attention_mask=torch.ones_like(one))[0][0, 0]
                for one in (sentence, other)
            )
    finally:
        encoder.train(was_training)
    # The same operations on the same numbers: in a causal model to the last bit.
    return not torch.equal(first, second)


def refuse_causal(encoder: PreTrainedModel, name: str) -> None:
    """Raises ModelError where a loaded encoder does not read both ways."""
    if not reads_both_ways(encoder):
        raise _refusal(type(encoder).__name__, name)


def refuse_unknown(config: Mapping[str, Any], name: str) -> None:
    """Raises ModelError where transformers has no code of its own for a configuration."""
    family = config.get("model_type")
    # Old configurations without it are told by their name.
    if isinstance(family, str) and family not in CONFIG_MAPPING:
        raise ModelError(
            f"transformers does not know the model_type {family!r}",
            model=name,
            remedy="model.trust_remote_code: true runs the code that comes with it, if you trust it"
            if "auto_map" in config
            else nearest(family, CONFIG_MAPPING, limit=0),
        )


def refuse_causal_config(
    place: str, name: str, *, trust_remote_code: bool, revision: str | None = None
) -> None:
    """As :func:`refuse_causal`, before any weights are read: of a small model of the same
    configuration with random weights.

    One that cannot be made says nothing: the encoder itself is tried when it is loaded.
    """
    code: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    encoder: Any = None
    # Whatever keeps a model of another size from being made or called.
    with contextlib.suppress(Exception), seeded(0, "causal"):
        config = AutoConfig.from_pretrained(place, revision=revision, **code)
        settings = config.to_dict()
        smaller = {key: min(most, settings[key]) for key, most in _SMALL.items() if key in settings}
        if settings.get("layer_types"):
            smaller["layer_types"] = settings["layer_types"][: smaller["num_hidden_layers"]]
        ids = {key: None for key in settings if key.endswith("_token_id")}
        config = type(config).from_dict({**settings, **smaller, **ids, "pad_token_id": 0})
        made = AutoModel.from_config(config, dtype=torch.float32, **code)
        if reads_both_ways(made):
            return
        encoder = made
    if encoder is not None:
        raise _refusal(type(encoder).__name__, name)


def _refusal(kind: str, name: str) -> ModelError:
    return ModelError(
        f"a {kind} of this configuration is causal: no piece sees those after it, so the first "
        "one, which stands for the sentence, says the same of every sentence",
        model=name,
        remedy="an encoder that reads both ways is asked, such as BERT or XLM-R; decoder-only "
        "models are not supported",
    )
