"""Measures of predictions against gold labels: fractions, None where gold leaves them undefined.

Whether a measure is defined follows from gold alone, so that means over languages are over the same
ones for all systems. Entities are an example: where gold has none, recall is 0 of 0; the scripts of
the field (seqeval, conlleval) print 0 there, which pulls every mean over languages down.
seqeval, scikit-learn and SciPy count. Lengths that differ raise ValueError.
"""

from __future__ import annotations

import re
import string
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

Normalisation = Literal["squad", "mlqa"]

ARTICLES = {
    "ar": r"\sال^|ال",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
}
"""By language, as MLQA's script has them."""

_IDEOGRAPH = re.compile(r"([\u4e00-\u9fa5])")


@lru_cache(maxsize=1 << 16)
def normalised(text: str, rule: Normalisation, language: str) -> tuple[str, ...]:
    """The tokens of an answer that are compared: the text is lowered, and loses punctuation,
    articles and surplus whitespace, in this order.

    ``squad`` (SQuAD v1.1; XTREME scores XQuAD and TyDiQA-GoldP with it in every language) knows
    ASCII punctuation, English articles, and tokens between whitespace, so that Chinese and Thai
    answers are mostly one token. ``mlqa`` knows all Unicode punctuation, the articles of the
    answer's language, and Chinese ideographs as tokens of their own.

    >>> normalised("The  Normans, 1066", "squad", "en")
    ('normans', '1066')
    >>> normalised("在1066年", "mlqa", "zh")
    ('在', '1066', '年')
    """
    is_mlqa = rule == "mlqa"
    text = "".join(char for char in text.lower() if not _is_punctuation(char, is_mlqa))
    articles = ARTICLES.get(language, "") if is_mlqa else ARTICLES["en"]
    if articles:
        text = re.sub(articles, " ", text)
    if is_mlqa and language == "zh":
        text = _IDEOGRAPH.sub(r" \1 ", text)
    return tuple(text.split())


def _is_punctuation(character: str, is_unicode: bool) -> bool:
    if character in string.punctuation:
        return True
    return is_unicode and unicodedata.category(character).startswith("P")


def exact_match(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """1.0 where the tokens of both are the same."""
    return float(gold == predicted)


def token_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over tokens, each counted as often as it stands.

    0 where either has no token: such answers share none.
    """
    if not gold or not predicted:
        return 0.0
    same = sum((Counter(gold) & Counter(predicted)).values())
    return 2 * same / (len(gold) + len(predicted))


def accuracy(gold: Sequence[str | int], predicted: Sequence[str | int]) -> float | None:
    """Share of labels that are right (of words, for tags); None where there is nothing."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(list(gold), list(predicted))) if gold else None


def macro_f1(gold: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Mean F1 over the labels that occur in ``gold``; None where there is nothing."""
    from sklearn.metrics import f1_score

    if not gold:
        return None
    labels = sorted(set(gold))
    scores = f1_score(list(gold), list(predicted), labels=labels, average="macro", zero_division=0)
    return float(scores)


def weighted_f1(gold: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Mean F1 over the labels that occur in ``gold``, weighted by how often; None where there is
    nothing. The metric of AfriSenti (arXiv 2302.08956)."""
    from sklearn.metrics import f1_score

    if not gold:
        return None
    labels = sorted(set(gold))
    return float(
        f1_score(list(gold), list(predicted), labels=labels, average="weighted", zero_division=0)
    )


def entity_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float | None:
    """Micro F1 over whole entities by seqeval, strict IOB2: an entity counts when type, begin and
    end agree, and begins with ``B-`` only. None where gold has no entity."""
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    if not any(tag.startswith("B-") for tags in gold for tag in tags):
        return None
    sides = [[list(tags) for tags in side] for side in (gold, predicted)]
    return float(f1_score(*sides, mode="strict", scheme=IOB2, zero_division=0))


def conll_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float | None:
    """Micro F1 over chunks by seqeval's default rules; None where gold has no chunk.

    An entity may begin with ``I-``. Tags without a scheme (parts of speech) are read as XTREME's
    script has them read (seen): a run of equal tags is one chunk, but for tags in B, E or S; and
    the first letter counts for nothing, so that CCONJ and SCONJ are alike.
    """
    from seqeval.metrics import f1_score

    if all(tag == "O" for tags in gold for tag in tags):
        return None
    sides = [[list(tags) for tags in side] for side in (gold, predicted)]
    with warnings.catch_warnings():
        # Parts of speech are not entities.
        warnings.simplefilter("ignore", UserWarning)
        return float(f1_score(*sides, zero_division=0))


def chunk_counts(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, is_strict: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(num_sentences,) right, predicted and gold ones of what :func:`entity_f1` (strict) or
    :func:`conll_f1` counts, sentence by sentence."""
    wanted, said = ([set(_chunks(tags, is_strict)) for tags in side] for side in (gold, predicted))
    right = [chunks & others for chunks, others in zip(wanted, said, strict=True)]
    num_right, num_said, num_wanted = (
        np.array([len(chunks) for chunks in side], np.int64) for side in (right, said, wanted)
    )
    return num_right, num_said, num_wanted


def _chunks(tags: Sequence[str], is_strict: bool) -> list[tuple[str, int, int]]:
    """Type, begin and end of every chunk of a sentence."""
    if is_strict:
        from seqeval.scheme import IOB2, Tokens

        return [
            (entity.tag, entity.start, entity.end) for entity in Tokens(list(tags), IOB2).entities
        ]
    from seqeval.metrics.sequence_labeling import get_entities

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return list(get_entities(list(tags)))


def pearson(gold: Sequence[float], predicted: Sequence[float]) -> float | None:
    """Correlation of values, -1 to 1; 0 where all predictions are equal, None where all of gold."""
    return _correlation("pearsonr", gold, predicted)


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> float | None:
    """Correlation of ranks, ties at their mean rank; else as :func:`pearson`."""
    return _correlation("spearmanr", gold, predicted)


def _correlation(name: str, gold: Sequence[float], predicted: Sequence[float]) -> float | None:
    from scipy import stats

    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold scores, {len(predicted)} predicted ones")
    if len(set(gold)) < 2:
        return None
    if len(set(predicted)) < 2:
        return 0.0
    return float(getattr(stats, name)(list(gold), list(predicted)).statistic)
