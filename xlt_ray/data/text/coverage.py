"""How much of a text a lexicon or lists of neighbours know, before anything is trained.

Over the first ``NUM_EXAMPLES`` examples or sentences of a text; labels are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from xlt_ray.config.facts import Coverage, TaskFacts
from xlt_ray.config.methods import AugmentRobust, CodeSwitchMlm
from xlt_ray.config.trial import TrialSpec
from xlt_ray.data.label_access import LabelAccess, texts
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.lexicon import Lookup
from xlt_ray.data.text.neighbours import lexicon_neighbours, neighbour_lists
from xlt_ray.data.types.base import Example, kind_of

NUM_EXAMPLES = 2000


def coverage_of(trial: TrialSpec, task: TaskFacts, source: Source) -> Iterator[Coverage]:
    """Of every list of words that a trial looks words up in, as far as the data has it.

    Args:
        task: facts of the target task.
    """
    target, language = trial.target, trial.target.source_language
    read = task_named(target.task)
    is_there = (language, "train") in task.splits
    hybrid, robust = target.hybrid, target.robust
    if hybrid.ratio > 0 and is_there and not hybrid.translated_languages(task, language):
        asked = hybrid.languages
        targets = source.lexicon_languages(language) if asked == "all" else asked
        words = _into(source, language, targets)
        if words:
            yield Coverage(
                "target.hybrid.ratio",
                f"the lexicon from {language} into {', '.join(targets)}",
                f"the training text of {read.name} in {language}",
                share_of(Lookup(words), _training_text(source, read, language)),
            )
    if isinstance(robust, AugmentRobust) and is_there:
        if robust.neighbours == "lists":
            found: Iterable[str] = neighbour_lists(source, language)
            name = f"neighbours in {language}"
        else:
            found, name = lexicon_neighbours(source, language), f"the lexicon from {language}"
        if found:
            lookup = Lookup(found, ignores_case=False)
            yield Coverage(
                "target.robust.neighbours",
                name,
                f"the training text of {read.name} in {language}",
                share_of(lookup, _training_text(source, read, language)),
            )
    if isinstance(trial.align, CodeSwitchMlm) and trial.align.switch > 0:
        there = source.parallel_languages()
        languages = there if trial.align.languages == "all" else trial.align.languages
        for one in (language for language in languages if language in there):
            words = _into(source, one, languages)
            if words:
                text = (sentence.split() for sentence in source.parallel(one).values())
                yield Coverage(
                    "align.languages",
                    f"the lexicon from {one}",
                    f"the parallel text in {one}",
                    share_of(Lookup(words), islice(text, NUM_EXAMPLES)),
                )


def share_of(lookup: Lookup, sentences: Iterable[Sequence[str]]) -> float:
    """Share of the words, each as often as it stands, that are found; 0.0 of none."""
    known: dict[str, bool] = {}
    num_words = num_found = 0
    for words in sentences:
        for word in words:
            if word not in known:
                known[word] = lookup.find(word) is not None
            num_words += 1
            num_found += known[word]
    return num_found / num_words if num_words else 0.0


def _into(source: Source, language: str, targets: Sequence[str]) -> list[str]:
    """Words of a language with a translation into any of the others."""
    if not source.lexicon_languages(language):
        return []
    wanted = set(targets) - {language}
    return [word for word, into in source.lexicon(language).items() if wanted.intersection(into)]


def _training_text(source: Source, task: Task, language: str) -> Iterator[Sequence[str]]:
    """The sentences whose words may be replaced."""
    slots = kind_of(task).switched(task)
    permit = LabelAccess("train", task.name, language)
    examples: Sequence[Example] = texts(source, permit, task, language, "train")[:NUM_EXAMPLES]
    for example in examples:
        sentences = example.sentences()
        yield from (sentences[slot] for slot in slots)
