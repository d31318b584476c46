"""Scores of predictions against gold labels: plain label strings in, fractions out.

``accuracy``: share of labels that are right (of words, for tags). ``macro_f1``: unweighted
mean of F1 over the labels that occur in the gold data. ``f1``: micro F1 of whole entities,
strict IOB2: an entity counts when type, begin and end agree, and begins with ``B-`` only
(the definition of ``seqeval`` in mode ``strict`` with scheme ``IOB2``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from xlt_ray.data.task import Task

Labels = Sequence[str] | Sequence[Sequence[str]]


def score(task: Task, gold: Labels, predicted: Labels) -> dict[str, float]:
    """The task's metrics, headline first; all 0.0 where there is nothing to score.

    For pairs both arguments are one label per example, for tags one sequence of tags per
    example; a predicted label outside the task's labels counts as wrong. Lengths that
    differ are our own mistake (ValueError).
    """
    flat_gold, flat_predicted = _flat(task, gold), _flat(task, predicted)
    found: dict[str, float] = {}
    for metric in task.metrics:
        if metric == "accuracy":
            found[metric] = accuracy(flat_gold, flat_predicted)
        elif metric == "macro_f1":
            found[metric] = macro_f1(flat_gold, flat_predicted)
        else:
            found[metric] = entity_f1(gold, predicted)
    return found


def _flat(task: Task, labels: Labels) -> list[str]:
    if task.kind == "pair":
        return [str(label) for label in labels]
    return [tag for tags in labels for tag in tags]


def accuracy(gold: Sequence[str], predicted: Sequence[str]) -> float:
    right = sum(one == other for one, other in zip(gold, predicted, strict=True))
    return right / len(gold) if gold else 0.0


def macro_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    in_gold, in_predicted = Counter(gold), Counter(predicted)
    right = Counter(one for one, other in zip(gold, predicted, strict=True) if one == other)
    # F1 = 2 TP / (2 TP + FP + FN) = 2 TP / (predicted + gold)
    scores = [2 * right[label] / (in_gold[label] + in_predicted[label]) for label in in_gold]
    return sum(scores) / len(scores) if scores else 0.0


def entity_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    num_gold = num_predicted = num_right = 0
    for one, other in zip(gold, predicted, strict=True):
        if len(one) != len(other):
            raise ValueError(f"{len(one)} gold tags against {len(other)} predicted ones")
        there, found = entities(one), entities(other)
        num_gold += len(there)
        num_predicted += len(found)
        num_right += len(there & found)
    total = num_gold + num_predicted
    return 2 * num_right / total if total else 0.0


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Entities as (type, begin, end), end excluded; an ``I-`` that continues nothing is none.

    >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"]))
    [('LOC', 4, 5), ('PER', 0, 2)]
    """
    found: set[tuple[str, int, int]] = set()
    kind, begin = "", 0
    for place, tag in enumerate((*tags, "O")):
        prefix, _, name = tag.partition("-")
        if kind and not (prefix == "I" and name == kind):
            found.add((kind, begin, place))
            kind = ""
        if prefix == "B":
            kind, begin = name, place
    return found
