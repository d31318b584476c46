"""Ask the data and modeling rooms once for all that the identity of a sweep's stages needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple, TypeVar

from xlt_ray.config.facts import (
    Coverage,
    Facts,
    LexiconFacts,
    ModelFacts,
    Split,
    SplitFacts,
    TaskFacts,
)
from xlt_ray.config.methods import AugmentRobust
from xlt_ray.config.search_space import Assignment, probes
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import Model, ToyData, TrialSpec
from xlt_ray.data.sources.base import Source, open_source
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.task import labels_file, task_named
from xlt_ray.data.text.coverage import coverage_of
from xlt_ray.data.text.neighbours import neighbours_digest
from xlt_ray.errors import DataError, DataErrors, ModelError, SpecError, SpecErrors
from xlt_ray.modeling.model_info import model_facts
from xlt_ray.store.stage_path import path_of


def facts_of(sweep: SweepSpec, *, may_assume: bool = False) -> Facts:
    """Models, tasks and texts that any trial of the sweep may use.

    With ``may_assume`` the shape of a well-known model is taken from the table of presets where
    the hub cannot be reached; no stage can be named then.

    Raises:
        SpecErrors: a model, a task or the data's root that is not there, with the keys that
            name them.
    """
    trials = [sweep.trial(tree) for tree, _ in probes(sweep.space, lambda _: ANY_DEPTH)]
    document = sweep.document
    problems: dict[str, SpecError] = {}

    def note(error: DataError | ModelError, key: str) -> None:
        for problem in error.problems if isinstance(error, DataErrors) else (error,):
            is_in_file = isinstance(problem, DataError) and problem.fields["file"]
            complaint = of_file(problem) if is_in_file else document.error(str(problem), key=key)
            problems.setdefault(str(complaint), complaint)

    try:
        source = open_source(trials[0].data)
    except DataError as error:
        raise SpecErrors([document.error(str(error), key="data.root")]) from None
    models: dict[str, ModelFacts] = {}
    tasks: dict[str, TaskFacts] = {}
    for trial in trials:
        if trial.model.label not in models:
            try:
                models[trial.model.label] = model_facts(
                    trial.model, source.vocabulary(), may_assume=may_assume
                )
            except ModelError as error:
                note(error, "model")
        for key, name in _task_names(trial):
            if name not in tasks:
                try:
                    tasks[name] = _task_facts(name, source)
                except DataError as error:
                    note(error, key)
    if problems:
        raise SpecErrors(problems.values())
    is_toy = isinstance(trials[0].data, ToyData)
    try:
        texts = _texts(trials, source)
        # The toy world's lists are of its own words.
        coverage = () if is_toy else _coverage(trials, tasks, source)
    except DataError as error:
        note(error, "data")
        raise SpecErrors(problems.values()) from None
    links = {
        f"{first}-{second}": digest
        for first, second in combinations(sorted(texts[0]), 2)
        if (digest := source.alignment_digest(first, second))
    }
    return Facts(
        models,
        tasks,
        *texts,
        has_links=bool(links),
        links={} if is_toy else links,
        coverage=coverage,
    )


def used_facts(sweep: SweepSpec, facts: Facts) -> dict[str, str]:
    """What the results of a sweep's trials follow from, by name: weights, splits and other texts by
    their digests, tasks and kinds of stages by their versions.

    It is what the paths of the probes read, so that neither data that no trial reads nor the place
    where any lie is a fact of the sweep. The sweep fits its facts
    (:func:`xlt_ray.config.checks.check_sweep.check`).
    """
    read = read_by(sweep, facts)
    splits, models = read.splits, read.models
    revisions = Counter(model.name for model in models)
    weights = {
        f"model {model.name if revisions[model.name] == 1 else model.label}": digest
        for model, digest in models.items()
    }
    return {
        **dict(sorted(weights.items())),
        **{f"{kind} stages": f"version {version}" for kind, version in sorted(read.stages.items())},
        **{
            f"task {name}": f"version {facts.tasks[name].version}"
            for name in sorted(splits)
            if splits[name].read
        },
        **{
            f"{name} {language} {split}": split_facts.digest[:DIGITS]
            for name in sorted(splits)
            for (language, split), split_facts in sorted(splits[name].read.items())
        },
        **{
            f"parallel text {language}": text[:DIGITS]
            for language, text in sorted(read.parallel.read.items())
        },
        **{
            f"lexicon {language}": words.digest[:DIGITS]
            for language, words in sorted(read.lexicon.read.items())
        },
        **{
            f"neighbours {language}": text[:DIGITS]
            for language, text in sorted(read.neighbours.read.items())
        },
        **{f"word links {pair}": text[:DIGITS] for pair, text in sorted(read.links.read.items())},
    }


def probes_of(sweep: SweepSpec, facts: Facts) -> Iterator[tuple[dict[str, Any], Assignment]]:
    """Concrete trees that cover a space (:func:`xlt_ray.config.search_space.probes`), by its
    models."""
    return probes(sweep.space, facts.model_bounds)


def of_file(error: DataError | ModelError) -> SpecError:
    """The same complaint with file and line as fields, where it is about a file."""
    file, line = error.fields.get("file"), error.fields.get("line")
    if not file:
        return SpecError(str(error))
    problem = error.fields["problem"].removeprefix(f"{file}:{line}: " if line else f"{file}: ")
    return SpecError(problem, file=file, line=line, remedy=error.fields["remedy"])


DIGITS = 20
"""Of a digest of data, as a ledger keeps it."""
K = TypeVar("K")
V = TypeVar("V")


class _Watched(Mapping[K, V]):
    """A mapping that remembers what was taken out of it."""

    def __init__(self, inner: Mapping[K, V]) -> None:
        self._inner = inner
        self.read: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        self.read[key] = self._inner[key]
        return self.read[key]

    def __contains__(self, key: object) -> bool:
        return key in self._inner

    def __iter__(self) -> Iterator[K]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)


class _WatchedSplits(_Watched[tuple[str, Split], SplitFacts]):
    """Splits, whose rows may be read when they are taken out: faults are kept."""

    def __init__(
        self, inner: Mapping[tuple[str, Split], SplitFacts], faults: list[DataError] | None
    ) -> None:
        super().__init__(inner)
        self._faults = faults

    def __getitem__(self, key: tuple[str, Split]) -> SplitFacts:
        try:
            return super().__getitem__(key)
        except DataError as error:
            if self._faults is None:
                raise
            self._faults += error.problems if isinstance(error, DataErrors) else [error]
            return SplitFacts(1, "")


class _Read(NamedTuple):
    """What the paths of a sweep's probes take from its facts."""

    models: Mapping[Model, str]
    stages: Mapping[str, int]
    splits: Mapping[str, _Watched[tuple[str, Split], SplitFacts]]
    parallel: _Watched[str, str]
    lexicon: _Watched[str, LexiconFacts]
    neighbours: _Watched[str, str]
    links: _Watched[str, str]


def read_by(sweep: SweepSpec, facts: Facts, faults: list[DataError] | None = None) -> _Read:
    """What the paths of a sweep's probes take from its facts.

    Args:
        faults: where those of the splits are gathered; the first one is raised otherwise.
    """
    splits = {name: _WatchedSplits(task.splits, faults) for name, task in facts.tasks.items()}
    read = _Read(
        {}, {}, splits, _Watched(facts.parallel), _Watched(facts.lexicon),
        _Watched(facts.neighbours), _Watched(facts.links),
    )  # fmt: skip
    watched = replace(
        facts,
        tasks={name: replace(task, splits=splits[name]) for name, task in facts.tasks.items()},
        parallel=read.parallel,
        lexicon=read.lexicon,
        neighbours=read.neighbours,
        links=read.links,
    )
    models: dict[Model, str] = {}
    stages: dict[str, int] = {}
    for tree, _ in probes_of(sweep, facts):
        trial = sweep.trial(tree)
        path = path_of(trial, watched, seed=0, shared_seed=0, sizes=sweep.sizes)
        models[trial.model] = facts.models[trial.model.label].weights
        stages |= {stage.kind: stage.version for stage in path}
    return read._replace(models=models, stages=stages)


def _coverage(
    trials: Iterable[TrialSpec], tasks: Mapping[str, TaskFacts], source: Source
) -> tuple[Coverage, ...]:
    """Of each list and text once, whatever else trials differ in."""
    found: dict[str, tuple[Coverage, ...]] = {}
    for trial in trials:
        target = trial.target
        asked = (target.task, target.source_language, target.hybrid, target.robust, trial.align)
        if repr(asked) not in found:
            found[repr(asked)] = tuple(coverage_of(trial, tasks[target.task], source))
    return tuple(dict.fromkeys(coverage for group in found.values() for coverage in group))


ANY_DEPTH = {"num_layers": 10**6, "hidden_size": 10**6}


def _task_names(trial: TrialSpec) -> Iterable[tuple[str, str]]:
    yield "target.task", trial.target.task
    if trial.intermediate is not None:
        for name in trial.intermediate.tasks:
            yield "intermediate.task", name
    for name in trial.evaluate.also:
        yield "evaluate.also", name


def _task_facts(name: str, source: Source) -> TaskFacts:
    task = task_named(name)
    place = source.place(task) if isinstance(source, FilesSource) else ""
    splits = source.splits(task)
    if not splits:
        raise DataError(
            f"the {source.name} data source has no data of this task",
            task=name,
            remedy=f"there is no {place}" if place else "",
        )
    if task.labels_file and not task.labels:
        raise DataError(
            "the labels of this task are missing",
            task=name,
            remedy=f"write {labels_file(task.labels_file)}, one label a line (docs/tasks.md)",
        )
    return TaskFacts(
        name=name,
        kind=task.kind,
        version=task.version,
        labels=task.labels,
        metrics=task.metrics,
        splits=splits,
        is_parallel=task.is_parallel,
        place=place,
    )


def _texts(
    trials: list[TrialSpec], source: Source
) -> tuple[dict[str, str], dict[str, LexiconFacts], dict[str, str]]:
    """Parallel text, word lists and neighbours, read only where a trial may use them."""
    parallel: dict[str, str] = {}
    starts: set[str] = set()
    is_aligned = any(trial.align is not None for trial in trials)
    if is_aligned or any(
        trial.evaluate.diagnostics or (trial.intermediate and trial.intermediate.mlm)
        for trial in trials
    ):
        parallel = {
            language: source.parallel_digest(language) for language in source.parallel_languages()
        }
    if is_aligned:
        starts |= set(parallel)
    starts |= {trial.target.source_language for trial in trials if trial.target.hybrid.ratio > 0}
    augmented = {
        trial.target.source_language
        for trial in trials
        if isinstance(trial.target.robust, AugmentRobust)
    }
    starts |= augmented
    lexicon = {
        start: LexiconFacts(tuple(source.lexicon_languages(start)), source.lexicon_digest(start))
        for start in sorted(starts)
        if source.lexicon_languages(start)
    }
    digests = {language: neighbours_digest(source, language) for language in sorted(augmented)}
    return parallel, lexicon, {language: digest for language, digest in digests.items() if digest}
