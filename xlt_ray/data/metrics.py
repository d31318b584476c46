"""Scores of predictions against gold labels: plain label strings in, fractions out.

``accuracy``: share of labels that are right (of words, for tags). ``macro_f1``: unweighted
mean of F1 over the labels that occur in the gold data. ``f1``: micro F1 of whole entities,
strict IOB2: an entity counts when type, begin and end agree, and begins with ``B-`` only.
seqeval and scikit-learn count.
"""

from __future__ import annotations

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
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(list(gold), list(predicted))) if gold else 0.0


def macro_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """Mean F1 over the labels that occur in ``gold``."""
    from sklearn.metrics import f1_score

    if not gold:
        return 0.0
    labels = sorted(set(gold))
    scores = f1_score(list(gold), list(predicted), labels=labels, average="macro", zero_division=0)
    return float(scores)


def entity_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Micro F1 over whole entities by seqeval, strict IOB2; 0 where there is no entity at all."""
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    if not gold:
        return 0.0
    one, other = ([list(tags) for tags in side] for side in (gold, predicted))
    return float(f1_score(one, other, mode="strict", scheme=IOB2, zero_division=0))
