"""Answers to questions compared as the official scripts do: exact match and token F1.

Both scripts lower the text, remove punctuation, then articles, then surplus whitespace, and
compare an answer with the gold answer it is nearest to:

- ``squad`` (SQuAD v1.1; XTREME scores XQuAD and TyDiQA-GoldP with it in every language):
  ASCII punctuation, the English articles, tokens between whitespace. Chinese and Thai answers
  are mostly one token there, so that F1 is near exact match.
- ``mlqa`` (MLQA): all Unicode punctuation, the articles of the answer's language, and Chinese
  ideographs as tokens of their own. Hindi and Chinese have no articles; neither has, here, a
  language that MLQA's script does not know.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

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
    """The tokens of an answer that are compared.

    >>> normalised("The  Normans, 1066", "squad", "en")
    ('normans', '1066')
    >>> normalised("在1066年", "mlqa", "zh")
    ('在', '1066', '年')
    """
    is_mlqa = rule == "mlqa"
    text = "".join(one for one in text.lower() if not _is_punctuation(one, is_mlqa))
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
