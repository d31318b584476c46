"""How much of a text a lexicon or lists of neighbours cover, before anything is trained.

Over the first ``NUM_EXAMPLES`` examples or sentences of a text; labels are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from xlt_ray.config.facts import Coverage, TaskFacts
from xlt_ray.config.methods import AugmentRobust, CodeSwitchMlm
from xlt_ray.config.trial import TrialSpec
from xlt_ray.data.label_access import LabelAccess, texts
from xlt_ray.data.sources.base import Source
from xlt_ray.data.task import Task, task_named
from xlt_ray.data.text.code_switching import translations
from xlt_ray.data.text.lexicon import Lookup
from xlt_ray.data.text.neighbours import lexicon_neighbours, neighbour_lists
from xlt_ray.data.types.base import Example, kind_of

NUM_EXAMPLES = 2000


def coverage_of(trial: TrialSpec, task: TaskFacts, source: Source) -> Iterator[Coverage]:
    """The coverage of every list of words that a trial uses, as far as the data has the list.

    Args:
        task: facts of the target task.
    """
    target, language = trial.target, trial.target.source_language
    hybrid, robust, align = target.hybrid, target.robust, trial.align
    read = task_named(target.task)
    has_text = (language, "train") in task.splits
    text = f"the training text of {read.name} in {language}"
    if hybrid.ratio > 0 and has_text and not hybrid.translated_languages(task, language):
        all_targets = source.lexicon_languages(language)
        targets = all_targets if hybrid.languages == "all" else hybrid.languages
        if words := translations(source, language, targets):
            share = share_of(Lookup(words), _training_text(source, read, language))
            name = f"the lexicon from {language} into {', '.join(targets)}"
            yield Coverage("target.hybrid.ratio", name, text, share)
    if isinstance(robust, AugmentRobust) and has_text:
        if robust.neighbours == "lists":
            neighbours, name = neighbour_lists(source, language), f"neighbours in {language}"
        else:
            neighbours, name = lexicon_neighbours(source, language), f"the lexicon from {language}"
        if neighbours:
            lookup = Lookup(neighbours, ignores_case=False)
            share = share_of(lookup, _training_text(source, read, language))
            yield Coverage("target.robust.neighbours", name, text, share)
    if isinstance(align, CodeSwitchMlm) and align.switch > 0:
        parallel = source.parallel_languages()
        languages = parallel if align.languages == "all" else align.languages
        for code in (code for code in languages if code in parallel):
            if words := translations(source, code, languages):
                sentences = (sentence.split() for sentence in source.parallel(code).values())
                share = share_of(Lookup(words), islice(sentences, NUM_EXAMPLES))
                name = f"the lexicon from {code}"
                yield Coverage("align.languages", name, f"the parallel text in {code}", share)


def share_of(lookup: Lookup, sentences: Iterable[Sequence[str]]) -> float:
    """Share of the words, counted with their repetitions, that are found; 0.0 without words."""
    counts = Counter(word for words in sentences for word in words)
    num_found = sum(count for word, count in counts.items() if lookup.find(word) is not None)
    return num_found / counts.total() if counts else 0.0


def _training_text(source: Source, task: Task, language: str) -> Iterator[Sequence[str]]:
    """The sentences whose words may be replaced."""
    slots = kind_of(task).switched
    access = LabelAccess("train", task.name, language)
    examples: Sequence[Example] = texts(source, access, task, language, "train")[:NUM_EXAMPLES]
    for example in examples:
        sentences = example.sentences()
        yield from (sentences[slot] for slot in slots)
