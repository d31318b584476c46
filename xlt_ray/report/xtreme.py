"""XTREME's averages, as the benchmark's own script takes them.

Seen in ``evaluate.py`` of the benchmark (google-research/xtreme): the score of a task is the
unweighted mean over its languages, the source language included; that of a question-answering
task is the mean of its mean exact match and its mean F1; that of a group, and of the whole, the
mean over tasks, and only where all of them are there. Fractions throughout; nothing is ever
averaged over a part of a task's languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xlt_ray.config.supervision import TRANSLATE_TRAIN, ZERO_SHOT
from xlt_ray.config.sweep import modes_of
from xlt_ray.ledger.views import winner
from xlt_ray.report.frames import Snapshot, target_of
from xlt_ray.report.stats import Trained, named, shared_by, trained_stages
from xlt_ray.report.tables import is_translate_train

if TYPE_CHECKING:
    import pandas as pd

    from xlt_ray.ledger import TrialView

PerLanguage = Mapping[str, float]
"""Language -> score."""
_System = tuple[tuple[object, ...], str]
"""Values of the parameters of a system, and its supervision."""


@dataclass(frozen=True)
class BenchmarkTask:
    """One task of the benchmark."""

    name: str
    """Ours."""
    group: str
    metrics: tuple[str, ...]
    """Of which the mean is taken."""
    languages: tuple[str, ...]

    @property
    def is_trained(self) -> bool:
        return self.group != "retrieval"

    def score(self, scores: Mapping[str, PerLanguage]) -> float | None:
        """Metric -> language -> score, as one number; None unless every language is there.

        >>> TASKS["tydiqa"].score({"em": {"en": 0.5}, "f1": {"en": 0.6}}) is None
        True
        """
        of_metrics = [scores.get(metric, {}) for metric in self.metrics]
        means = [_mean([of.get(language) for language in self.languages]) for of in of_metrics]
        return _mean(means)


_PAIRS, _TAGS, _SPANS, _RETRIEVAL = "sentence_pair", "structured", "question_answering", "retrieval"


def _task(name: str, group: str, metrics: str, languages: str) -> BenchmarkTask:
    return BenchmarkTask(name, group, tuple(metrics.split()), tuple(languages.split()))


TASKS: dict[str, BenchmarkTask] = {
    task.name: task
    for task in (
        _task("xnli", _PAIRS, "accuracy", "ar bg de el en es fr hi ru sw th tr ur vi zh"),
        _task("pawsx", _PAIRS, "accuracy", "de en es fr ja ko zh"),
        _task(
            "pos",
            _TAGS,
            "conll_f1",
            "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl "
            "tr ur vi yo zh",
        ),
        _task(
            "ner-panx",
            _TAGS,
            "conll_f1",
            "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl "
            "pt ru sw ta te th tl tr ur vi yo zh",
        ),
        _task("xquad", _SPANS, "em f1", "ar de el en es hi ru th tr vi zh"),
        _task("mlqa", _SPANS, "em f1", "ar de en es hi vi zh"),
        _task("tydiqa", _SPANS, "em f1", "ar bn en fi id ko ru sw te"),
        _task("bucc", _RETRIEVAL, "accuracy", "de fr ru zh"),
        # Scored with English queries: ``similarity_search(x, y)`` of the benchmark's
        # ``utils_retrieve.py`` indexes the other language's sentences and searches for the English
        # ones. Where two of them are equally near it takes one; here both are a miss.
        _task(
            "tatoeba",
            _RETRIEVAL,
            "accuracy_from_pivot",
            "af ar bg bn de el es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr nl pt ru sw "
            "ta te th tl tr ur vi zh",
        ),
    )
}
GROUPS = (_PAIRS, _TAGS, _SPANS, _RETRIEVAL)
MINING = _task("bucc-mining", _RETRIEVAL, "f1", "de fr ru zh")
"""What the benchmark scores BUCC by: F1 of mining. Where it was not evaluated, the accuracy of
retrieval among BUCC's translations is shown in its place; that is another measure, so it enters no
mean, and every row says which of the two it has."""


def averages(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """Means over tasks, by their scores: of every group, and of the whole.

    ``average`` is the benchmark's own over all nine tasks; ``average_trained`` that over the seven
    without retrieval, and ``average_of_groups`` the mean of their three groups, both as papers that
    leave retrieval out report them. A mean that lacks a task is None.

    >>> averages({"xnli": 0.5, "pawsx": 1.0})["sentence_pair"]
    0.75
    """
    means = {
        group: _mean([scores.get(task.name) for task in TASKS.values() if task.group == group])
        for group in GROUPS
    }
    trained = [scores.get(task.name) for task in TASKS.values() if task.is_trained]
    means["average"] = _mean([scores.get(name) for name in TASKS])
    means["average_trained"] = _mean(trained)
    means["average_of_groups"] = _mean([means[group] for group in GROUPS[:3]])
    return means


def xtreme_frame(snapshots: Sequence[Snapshot]) -> pd.DataFrame:
    """One row a system, its supervision and seed: its parameters, the score of every task, and
    :func:`averages`.

    ``supervision`` is *zero-shot* or *translate-train*: the benchmark keeps the two in tables of
    their own, so a system has a row for either.

    ``bucc`` is the F1 of ``bucc-mining`` where that was evaluated, else the accuracy of ``bucc``,
    which is in no mean; ``bucc_by`` says which: the name of the task, or None without either.

    ``shared_by_seeds`` names the trained stages that several rows of a system go on from: the
    spread over these rows leaves out their luck, and scores of the encoder before the target
    training (retrieval) have none. None where seeds share nothing.

    A system is all that was searched over outside ``target``: model, alignment, intermediate
    training. Its trials may stand in several sweeps, for tasks that are not scored by one metric.
    Of several configurations of one system for one task that counts which the sweep's own objective
    selects, by its mean over seeds. Retrieval counts where it was scored by the encoder that the
    benchmark asks for, the one before the target training (``retrieval_encoder: before``); all
    targets of a system have that one, and the first that tells is taken.
    """
    import pandas as pd

    paths = (path for snapshot in snapshots for path in snapshot.parameters)
    parameters = dict.fromkeys(path for path in paths if path.partition(".")[0] != "target")
    rows: dict[tuple[_System, int], dict[str, float]] = {}
    trained: dict[_System, dict[int, Trained]] = {}
    tasks = {**TASKS, MINING.name: MINING}
    for snapshot in snapshots:
        for (system, task), view in _selected(snapshot, tuple(parameters)):
            by_seed = trained.setdefault(system, {})
            by_seed[view.seed] = by_seed.get(view.seed, ()) + trained_stages([view])[view.number]
            evaluated = {task: _test_scores(snapshot, view), **_retrieved(snapshot, view)}
            for name, scores in evaluated.items():
                score = tasks[name].score(scores)
                if score is not None:
                    rows.setdefault((system, view.seed), {}).setdefault(name, score)
    table = []
    for ((values, supervision), seed), by_task in rows.items():
        bucc_by = next((name for name in (MINING.name, "bucc") if name in by_task), None)
        by_seed = trained[values, supervision]
        table.append(
            {
                **dict(zip(parameters, values, strict=True)),
                "supervision": supervision,
                "seed": seed,
                **{name: by_task.get(name) for name in TASKS},
                "bucc": by_task[bucc_by] if bucc_by else None,
                "bucc_by": bucc_by,
                "shared_by_seeds": named(shared_by(by_seed.values())) or None,
                **averages({**by_task, "bucc": by_task.get(MINING.name)}),
            }
        )
    beside = ("bucc_by", "shared_by_seeds", *averages({}))
    return pd.DataFrame(table, columns=[*parameters, "supervision", "seed", *TASKS, *beside])


def _selected(
    snapshot: Snapshot, parameters: Sequence[str]
) -> Iterator[tuple[tuple[_System, str], TrialView]]:
    """System, task and trial of every complete trial of a selected configuration."""
    views_by_key: dict[tuple[_System, str], list[TrialView]] = {}
    for view in snapshot.trials:
        task, _ = target_of(snapshot.sweep, view.assignment)
        if view.state == "complete" and task in TASKS and view.objective is not None:
            values = tuple(view.assignment.get(path) for path in parameters)
            is_translated = is_translate_train(snapshot.supervision(view))
            system = values, TRANSLATE_TRAIN if is_translated else ZERO_SHOT
            views_by_key.setdefault((system, task), []).append(view)
    sweep = snapshot.sweep
    for key, views in views_by_key.items():
        best = winner(views, sweep["search"]["seeds"], *modes_of(sweep["objective"]))
        if best is not None:
            chosen = best.configuration
            yield from ((key, view) for view in views if view.configuration == chosen)


def _test_scores(snapshot: Snapshot, view: TrialView) -> dict[str, dict[str, float]]:
    """Metric -> language -> test score of the target task."""
    record = snapshot.record(view, "evaluate")
    scores: dict[str, dict[str, float]] = {}
    for score in record.scores if record else ():
        if score.role == "target" and score.split == "test":
            scores.setdefault(score.metric, {})[score.language] = score.value
    return scores


def _retrieved(snapshot: Snapshot, view: TrialView) -> dict[str, dict[str, dict[str, float]]]:
    """Retrieval task -> metric -> language -> score, by the encoder before the target training."""
    record = snapshot.record(view, "evaluate")
    settings: Any = record.payload["settings"] if record else {}
    scores: dict[str, dict[str, dict[str, float]]] = {}
    if record is None or settings.get("retrieval_encoder") != "before":
        return scores
    retrieval = {MINING.name, *(task.name for task in TASKS.values() if not task.is_trained)}
    for score in record.scores:
        if score.role == "further" and score.task in retrieval:
            by_language = scores.setdefault(score.task, {}).setdefault(score.metric, {})
            by_language[score.language] = score.value
    return scores


def _mean(values: Sequence[float | None]) -> float | None:
    """None where a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
