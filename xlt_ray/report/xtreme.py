"""XTREME's averages, as the benchmark's own script takes them.

Seen in ``evaluate.py`` of the benchmark (google-research/xtreme): the score of a task is the
unweighted mean over its languages, the source language included; that of a question-answering
task is the mean of its mean exact match and its mean F1; that of a group, and of the whole, the
mean over tasks, and only where all of them are there. Fractions throughout.

Tatoeba is scored there with English queries: ``similarity_search(x, y)`` of
``third_party/utils_retrieve.py`` indexes the sentences x of the other language and searches it for
the English ones y, so ``accuracy_from_pivot`` is its score. (Where two sentences of the pool are
equally near the script takes one of them, and here both are a miss.)

BUCC is scored there by F1 of mining, which is the task ``bucc-mining`` here. Where it was not
evaluated the accuracy of retrieval among its translations, ``bucc``, is shown in its place; that is
another measure, so it enters no mean, and every row says which of the two it has. Nothing here is
ever averaged over a part of a task's languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xlt_ray.config.supervision import TRANSLATE_TRAIN, ZERO_SHOT
from xlt_ray.ledger.views import ranked
from xlt_ray.report.frames import Snapshot, target_of
from xlt_ray.report.replication import Trained, named, shared_by, trained_stages
from xlt_ray.report.tables import is_translate_train

if TYPE_CHECKING:
    import pandas as pd

    from xlt_ray.ledger import TrialView

PerLanguage = Mapping[str, float]
"""Language -> score."""


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
        means = []
        for metric in self.metrics:
            by_language = scores.get(metric, {})
            if not by_language.keys() >= set(self.languages):
                return None
            means.append(
                sum(by_language[language] for language in self.languages) / len(self.languages)
            )
        return sum(means) / len(means)


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
"""What BUCC is scored by where it was evaluated."""


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

    parameters = dict.fromkeys(
        path
        for snapshot in snapshots
        for path in snapshot.parameters
        if path.partition(".")[0] != "target"
    )
    rows: dict[tuple[tuple[object, ...], str, int], dict[str, float]] = {}
    trained: dict[tuple[tuple[object, ...], str], dict[int, Trained]] = {}
    for snapshot in snapshots:
        for (system, supervision, task), view in _selected(snapshot, tuple(parameters)):
            by_seed = trained.setdefault((system, supervision), {})
            by_seed[view.seed] = by_seed.get(view.seed, ()) + trained_stages([view])[view.number]
            by_task = {task: _test_scores(snapshot, view), **_retrieved(snapshot, view)}
            for name, scores in by_task.items():
                score = (MINING if name == MINING.name else TASKS[name]).score(scores)
                if score is not None:
                    row = rows.setdefault((system, supervision, view.seed), {})
                    row.setdefault(name, score)
    shared = {who: named(shared_by(by_seed.values())) or None for who, by_seed in trained.items()}
    return pd.DataFrame(
        [
            {
                **dict(zip(parameters, system, strict=True)),
                "supervision": supervision,
                "seed": seed,
                **{name: by_task.get(name) for name in TASKS},
                "bucc": by_task.get(by) if by else None,
                "bucc_by": by,
                "shared_by_seeds": shared[system, supervision],
                **averages({**by_task, "bucc": by_task.get(MINING.name)}),
            }
            for (system, supervision, seed), by_task in rows.items()
            for by in (_bucc_by(by_task),)
        ],
        columns=[
            *parameters,
            "supervision",
            "seed",
            *TASKS,
            "bucc_by",
            "shared_by_seeds",
            *averages({}),
        ],
    )


def _bucc_by(scores: Mapping[str, float]) -> str | None:
    """Which task BUCC is shown by."""
    return next((name for name in (MINING.name, "bucc") if name in scores), None)


def _selected(
    snapshot: Snapshot, parameters: Sequence[str]
) -> Iterator[tuple[tuple[tuple[object, ...], str, str], TrialView]]:
    """System, supervision, task and trial of every complete trial of a selected configuration."""
    views_by_key: dict[tuple[tuple[object, ...], str, str], list[TrialView]] = {}
    for view in snapshot.trials:
        task, _ = target_of(snapshot.sweep, view.assignment)
        if view.state == "complete" and task in TASKS and view.objective is not None:
            system = tuple(view.assignment.get(path) for path in parameters)
            is_translated = is_translate_train(snapshot.supervision(view))
            supervision = TRANSLATE_TRAIN if is_translated else ZERO_SHOT
            views_by_key.setdefault((system, supervision, task), []).append(view)
    sweep = snapshot.sweep
    for key, views in views_by_key.items():
        best = ranked(views, int(sweep["search"]["seeds"]), sweep["objective"]["mode"])[0]
        yield from ((key, view) for view in views if view.configuration == best)


def _test_scores(snapshot: Snapshot, view: TrialView) -> dict[str, dict[str, float]]:
    record = snapshot.record(view, "evaluate")
    scores: dict[str, dict[str, float]] = {}
    for score in record.scores if record else ():
        if score.role == "target" and score.split == "test":
            scores.setdefault(score.metric, {})[score.language] = score.value
    return scores


def _retrieved(snapshot: Snapshot, view: TrialView) -> dict[str, dict[str, dict[str, float]]]:
    """Retrieval task -> metric -> language -> score, by the encoder before the target training."""
    record = snapshot.record(view, "evaluate")
    scores: dict[str, dict[str, dict[str, float]]] = {}
    settings = record.payload["settings"] if record else None
    if not isinstance(settings, dict) or settings.get("retrieval_encoder") != "before":
        return scores
    assert record is not None
    for score in record.scores:
        is_one = score.task in TASKS and not TASKS[score.task].is_trained
        if score.role == "further" and (is_one or score.task == MINING.name):
            by_language = scores.setdefault(score.task, {}).setdefault(score.metric, {})
            by_language[score.language] = score.value
    return scores


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
