"""The text of a first sweep file: what ``xlt init`` writes from five answers.

A question is one function, which says what the sweep searches over.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.facts import ModelFacts
from xlt_ray.config.yaml import as_yaml
from xlt_ray.errors import SpecError

_NARROW = 512
"""Width of an encoder up to which higher rates suit it (docs/tasks.md)."""
_COLUMNS = 96
_MOST_TASKS = 3
"""Intermediate tasks of a first sweep."""


@dataclass(frozen=True)
class Answers:
    """What a first sweep is about."""

    name: str
    data: str
    """Root of a folder of files, or ``toy``."""
    task: str
    metric: str
    source_language: str
    num_train: int
    """Labelled examples of the source language."""
    test_languages: tuple[str, ...]
    other_tasks: tuple[str, ...]
    """Further tasks with training data in the source language, those with most first."""
    has_translations: bool
    """Whether its training text is there in other languages."""
    has_lexicon: bool
    """Whether words of the source language can be translated."""
    model: str
    facts: ModelFacts
    question: str
    seeds: int

    @property
    def rate(self) -> float:
        """A learning rate that suits the encoder."""
        if self.data == "toy":
            return 1e-3
        return 2e-4 if self.facts.hidden_size <= _NARROW else 2e-5


Tree = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One axis of a first sweep."""

    text: str
    searched: Callable[[Answers], Tree]
    """The keys that it adds to the sweep. Raises SpecError where the data cannot answer it."""


def _rate(answers: Answers) -> Tree:
    rate = answers.rate
    return {"target": {"learning_rate": {"choice": [rate / 2, rate, 2 * rate]}}}


def _fusion(_: Answers) -> Tree:
    layer = {"int": [0, "num_layers - 1"]}
    methods = [{"method": "none"}, {"method": "mix"}, {"method": "dlfa", "layer": layer}]
    return {"target": {"fusion": {"choice": methods}}}


def _size(answers: Answers) -> Tree:
    sizes = sorted({max(answers.num_train // part, 1) for part in (8, 4, 2, 1)})
    return {"target": {"size": {"choice": sizes}}}


def _intermediate(answers: Answers) -> Tree:
    if not answers.other_tasks:
        raise SpecError(
            f"{answers.data} has no other task with training data in {answers.source_language}",
            key="--question",
            remedy="add one, or ask another question",
        )
    block = {
        "task": {"choice": list(answers.other_tasks[:_MOST_TASKS])},
        "seed": "per_trial",
        "learning_rate": answers.rate,
    }
    return {"intermediate": {"choice": [None, block]}}


def _hybrid(answers: Answers) -> Tree:
    if not (answers.has_translations or answers.has_lexicon):
        raise SpecError(
            f"{answers.task} has no training text in other languages, and there is no lexicon",
            key="--question",
            remedy=f"add {{language}}.train files or lexicon/{answers.source_language}-LANGUAGE.tsv"
            ", or ask another question",
        )
    # Switched words leave the results zero-shot, translated training text does not.
    text = {"text": "switched"} if answers.has_lexicon else {}
    return {"target": {"hybrid": {"ratio": {"choice": [0.0, 0.3, 0.6]}, **text}}}


def _layers(answers: Answers) -> Tree:
    depth = answers.facts.num_layers
    depths = sorted({max(depth // part, 1) for part in (4, 2, 1)})
    return {"model": {"name": answers.model, "layers": {"choice": depths}}}


QUESTIONS: Mapping[str, Question] = {
    "rate": Question("Which learning rate suits the task?", _rate),
    "fusion": Question("Which layer should be fused with the last one?", _fusion),
    "size": Question("How many labelled examples are enough?", _size),
    "intermediate": Question("Which task should be trained before this one?", _intermediate),
    "hybrid": Question("How many batches should be in other languages?", _hybrid),
    "layers": Question("How large has the encoder to be?", _layers),
}


def first_sweep(answers: Answers, file: str) -> str:
    """The commented text of a sweep file that asks ``answers.question``.

    Args:
        file: what the file is called, for the commands in its first lines.

    Raises:
        SpecError: the data cannot answer the question.
    """
    question = QUESTIONS[answers.question]
    searched = question.searched(answers)
    data = {"source": "toy"}
    if answers.data != "toy":
        data = {"source": "files", "root": answers.data}
    target = {
        "task": answers.task,
        "source_language": answers.source_language,
        "epochs": 3,
        "learning_rate": answers.rate,
    }
    tree = {
        "name": answers.name,
        "data": data,
        "model": answers.model,
        **searched,
        "target": {**target, **searched.get("target", {})},
        "objective": {"metric": answers.metric},
        # A grid ends when every point was tried.
        "search": {"sampler": "grid", "trials": 99, "seeds": answers.seeds},
    }
    order = ("name", "data", "model", "intermediate", "target", "objective", "search")
    languages = answers.test_languages
    comments = {
        "data": f"with {len(languages)} test sets: {', '.join(languages)}",
        "model": "a folder, or a name of the Hugging Face Hub",
        "intermediate": "is trained before the target task; null is the baseline",
        "target": "is trained in the source language and scored in all",
        "objective": "selects on the dev set of the source language",
        "search": "tries every point, each with so many seeds",
    }
    head = f"""\
# {question.text}
#
#   xlt check {file}
#   xlt plan {file}
#   xlt run {file}
#   xlt report {answers.name}
#
# `xlt check` reads every line of the data, `xlt plan` says what will be trained and for how long.
# Ctrl-C stops a run, and the same command continues it. `xlt show {file} --resolved` shows
# the keys that are left out here.
"""
    text = as_yaml({key: tree[key] for key in order if key in tree})
    for key, comment in comments.items():
        lines = "\n".join(f"# {line}" for line in textwrap.wrap(comment, _COLUMNS))
        text = re.sub(rf"^{key}:", f"\n{lines}\n{key}:", text, flags=re.MULTILINE)
    return f"{head}\n{text}"
