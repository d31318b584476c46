"""Diagnose an encoder layer by layer, during training and at the end.

Diagnostics read hidden states on a fixed sample of parallel text
(:mod:`xlt_ray.data.text.parallel_sample`), in evaluation mode and without drawing random numbers,
so the weights are the same bits with and without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from xlt_ray.config.diagnostics import DIAGNOSTICS, Diagnosis
from xlt_ray.data.sources.base import Source
from xlt_ray.data.text.parallel_sample import ParallelSample, parallel_sample
from xlt_ray.modeling.diagnostics.layer_states import States, joined, pooled, words_of
from xlt_ray.modeling.network import hidden_states
from xlt_ray.store.record import Profile
from xlt_ray.store.stage import Stage
from xlt_ray.training.load import TrainingContext, tensors_of

Diagnose = Callable[[nn.Module], tuple[Profile, ...]]
"""From a network in evaluation mode to its profiles, without their step."""


def diagnosis_of(stage: Stage) -> Diagnosis | None:
    """The diagnostics of an evaluation stage; None if it has none, and for other stages."""
    settings = stage.settings.get("diagnostics") if stage.kind == "evaluate" else None
    if settings is None:
        return None
    return Diagnosis(
        names=tuple(settings["names"]),
        source_language=stage.settings["source_language"],
        languages=tuple(settings["languages"]),
        num_sentences=settings["sentences"],
        max_length=stage.settings["max_length"],
    )


def diagnose_with(
    diagnosis: Diagnosis, source: Source, tokenizer: Any, batch_size: int
) -> Diagnose:
    """A function that diagnoses networks of this tokenizer; the sample is encoded once."""
    sample = parallel_sample(source, diagnosis, tokenizer)
    return lambda network: profiles(network.encoder, sample, batch_size)


def diagnose_stage(
    stage: Stage, network: nn.Module, tokenizer: Any, context: TrainingContext
) -> tuple[Profile, ...]:
    """Profiles of the encoder of the network that an evaluation stage evaluates; empty without
    diagnostics.

    The workers share the languages.
    """
    diagnosis = diagnosis_of(stage)
    if diagnosis is None:
        return ()
    group = context.group
    sample = parallel_sample(context.source, diagnosis, tokenizer)
    languages = diagnosis.languages[group.rank :: group.size]
    encoder = network.get_submodule("encoder")
    measured = profiles(encoder, sample, context.runtime.evaluation_batch, languages)
    return _ordered(profile for worker in group.gather(measured) for profile in worker)


def _ordered(profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    return tuple(sorted(profiles, key=lambda profile: (profile.diagnostic, profile.language)))


def profiles(
    encoder: Any,
    sample: ParallelSample,
    batch_size: int,
    languages: Sequence[str] | None = None,
) -> tuple[Profile, ...]:
    """One profile for each diagnostic and language, all of them or those named.

    Every sentence is encoded once; the states of all its layers come from one forward pass.
    """
    diagnosis = sample.diagnosis
    pairs = [pair for pair in sample.pairs if languages is None or pair.language in languages]
    if not pairs:
        return ()
    with_words = diagnosis.needs_links and any(pair.links is not None for pair in pairs)
    measured = []
    # Not in inference mode: weights that ZeRO 3 gathers there could not be trained afterwards.
    with torch.no_grad():
        source = _states(encoder, sample, diagnosis.source_language, batch_size, with_words)
        for pair in pairs:
            target = _states(encoder, sample, pair.language, batch_size, with_words)
            sides = source.taken(pair.source_rows), target
            links = None if pair.links is None else [torch.from_numpy(link) for link in pair.links]
            for name in diagnosis.names:
                if DIAGNOSTICS[name].needs_links and links is None:
                    continue
                values = DIAGNOSTICS[name].load()(*sides, links).tolist()
                measured.append(
                    Profile(
                        diagnostic=name,
                        source_language=diagnosis.source_language,
                        language=pair.language,
                        values=tuple(None if math.isnan(value) else value for value in values),
                        num_sentences=len(pair.source_rows),
                    )
                )
    return _ordered(measured)


def _states(
    encoder: Any, sample: ParallelSample, language: str, batch_size: int, with_words: bool
) -> States:
    """The states of all sampled sentences of a language, in the sample's order."""
    device = next(encoder.parameters()).device
    parts, order = [], []
    for batch in sample.batches(language, batch_size):
        tensors = tensors_of(batch.arrays, device)
        weights = torch.from_numpy(batch.word_weights).to(device) if with_words else None
        sentences, words = pooled(
            hidden_states(encoder, tensors), tensors["attention_mask"], weights
        )
        order += batch.numbers
        parts.append(States(sentences, None if words is None else words_of(words, batch.num_words)))
    return joined(parts, order)
