"""What a sweep reads: the facts that decide its stages, and faults of its files before it starts.

The facts are the digests, sizes and shapes of models, tasks and texts (:func:`facts_of`). The part
of them that the trials of a sweep read is what its results follow from (:func:`used_facts`), and
what :func:`refuse_faulty` reads line by line.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeVar

from xlt_ray.config.checks.check_schedules import StageSize, stage_sizes
from xlt_ray.config.checks.check_sweep import warnings_of
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
from xlt_ray.config.mixture import mixture_of
from xlt_ray.config.search_space import probes
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import HubData, Model, ToyData, TrialSpec, with_lengths
from xlt_ray.data.cache import Verdicts
from xlt_ray.data.data_check import FileCheck, JoinCheck, Sizes
from xlt_ray.data.piece_check import PieceCheck, TextShares
from xlt_ray.data.sources.base import Source, Survey, open_source
from xlt_ray.data.sources.hub_library import NOT_CACHED, cached_only
from xlt_ray.data.sources.hub_source import HubSource
from xlt_ray.data.sources.local_files import FilesSource
from xlt_ray.data.sources.toy_source import ToySource
from xlt_ray.data.task import labels_file, task_named
from xlt_ray.data.text.coverage import coverage_of
from xlt_ray.data.text.neighbours import neighbours_digest
from xlt_ray.errors import DataError, DataErrors, ModelError, SpecError, SpecErrors
from xlt_ray.modeling.model_files import folder_faults, tokenizer_file
from xlt_ray.modeling.model_info import model_facts, shape_of
from xlt_ray.modeling.toy_models import is_toy
from xlt_ray.store.stage_path import StagePath, path_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.cost import Text

ANY_DEPTH = {"num_layers": 10**6, "hidden_size": 10**6}
"""Bounds of a model before its facts are known."""
DIGITS = 20
"""Of a digest of data, as a ledger keeps it."""


def facts_of(sweep: SweepSpec, *, may_assume: bool = False) -> Facts:
    """Models, tasks and texts that any trial of the sweep may use.

    Args:
        may_assume: take the shape of a well-known model from the table of presets where the hub
            cannot be reached; no stage has a key then.

    Raises:
        SpecErrors: a model, a task or the root of the data is missing; with the keys that name
            them.
    """
    trials = _probed_trials(sweep)
    document = sweep.document
    problems: dict[str, SpecError] = {}

    def note(error: DataError | ModelError, key: str) -> None:
        for problem in error.problems if isinstance(error, DataErrors) else (error,):
            is_in_file = isinstance(problem, DataError) and problem.fields["file"]
            located = spec_error(problem) if is_in_file else document.error(str(problem), key=key)
            problems.setdefault(str(located), located)

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
        # The toy lists have only toy words.
        coverage = () if is_toy else _coverage(trials, tasks, source)
    except DataError as error:
        note(error, "data")
        raise SpecErrors(problems.values()) from None
    # Those of toy data follow from its texts.
    links = {
        f"{first}-{second}": digest
        for first, second in combinations(sorted(texts[0]), 2)
        if not is_toy and (digest := source.alignment_digest(first, second))
    }
    return Facts(
        models,
        tasks,
        *texts,
        has_links=bool(texts[0] if is_toy else links),
        links=links,
        coverage=coverage,
    )


def used_facts(sweep: SweepSpec, facts: Facts) -> dict[str, str]:
    """What the results of a sweep's trials follow from, by name: digests of weights, splits and
    other texts, versions of tasks and kinds of stages.

    Data that no trial reads are not among them, nor the folders of the data. The sweep fits its
    facts (:func:`xlt_ray.config.checks.check_sweep.check`).
    """
    read = read_by(sweep, facts)
    splits, models = read.splits, read.models
    revisions = Counter(model.name for model in models)
    weights = {
        f"model {model.name if revisions[model.name] == 1 else model.label}": digest
        for model, digest in models.items()
    }
    texts: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("parallel text", read.parallel.read),
        ("lexicon", {language: words.digest for language, words in read.lexicon.read.items()}),
        ("neighbours", read.neighbours.read),
        ("word links", read.links.read),
    )
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
            f"{kind} {name}": digest[:DIGITS]
            for kind, digests in texts
            for name, digest in sorted(digests.items())
        },
    }


def _probed_trials(sweep: SweepSpec, facts: Facts | None = None) -> list[TrialSpec]:
    """Trials that cover a space, even before its models are known."""
    bounds = facts.model_bounds if facts is not None else lambda _: ANY_DEPTH
    return [sweep.trial(tree) for tree, _ in probes(sweep.space, bounds)]


def facts_of_model(name: str, vocabulary: tuple[str, ...] | None) -> ModelFacts:
    """Facts of a model by its name, those of ``xlt list models`` where the hub is away.

    Raises:
        ModelError: there is no such model.
    """
    return model_facts(Model(name=name), vocabulary, may_assume=True)


def spec_error(error: DataError | ModelError) -> SpecError:
    """The same error with file and line as fields, if it has them."""
    file, line = error.fields.get("file"), error.fields.get("line")
    if not file:
        return SpecError(str(error))
    problem = error.fields["problem"].removeprefix(f"{file}:{line}: " if line else f"{file}: ")
    return SpecError(problem, file=file, line=line, remedy=error.fields["remedy"])


K = TypeVar("K")
V = TypeVar("V")


class _Watched(Mapping[K, V]):
    """A mapping that remembers which items were read."""

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
    """Splits, whose rows may be read with their facts: faults are collected."""

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
    """What the paths of a sweep's trials read of its facts."""

    models: Mapping[Model, str]
    stages: Mapping[str, int]
    splits: Mapping[str, _Watched[tuple[str, Split], SplitFacts]]
    parallel: _Watched[str, str]
    lexicon: _Watched[str, LexiconFacts]
    neighbours: _Watched[str, str]
    links: _Watched[str, str]


def read_by(sweep: SweepSpec, facts: Facts, faults: list[DataError] | None = None) -> _Read:
    """What the paths of a sweep's trials read of its facts.

    Args:
        faults: collects those of the splits; without it the first one is raised.
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
    for trial in _probed_trials(sweep, facts):
        path = path_of(trial, watched, seed=0, shared_seed=0, sizes=sweep.sizes)
        models[trial.model] = facts.models[trial.model.label].weights
        stages |= {stage.kind: stage.version for stage in path}
    return read._replace(models=models, stages=stages)


def _coverage(
    trials: Iterable[TrialSpec], tasks: Mapping[str, TaskFacts], source: Source
) -> tuple[Coverage, ...]:
    """The coverage of each list and text once, whatever else trials differ in."""
    by_use: dict[str, tuple[Coverage, ...]] = {}
    for trial in trials:
        target = trial.target
        use = (target.task, target.source_language, target.hybrid, target.robust, trial.align)
        if repr(use) not in by_use:
            by_use[repr(use)] = tuple(coverage_of(trial, tasks[target.task], source))
    return tuple(dict.fromkeys(coverage for group in by_use.values() for coverage in group))


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
) -> tuple[Mapping[str, str], dict[str, LexiconFacts], dict[str, str]]:
    """Parallel text, word lists and neighbours, read only where a trial may use them."""
    parallel: Mapping[str, str] = {}
    starts: set[str] = set()
    is_aligned = any(trial.align is not None for trial in trials)
    if is_aligned or any(
        trial.evaluate.diagnostics or (trial.intermediate and trial.intermediate.mlm)
        for trial in trials
    ):
        parallel = Survey(source.parallel_languages(), source.parallel_digest)
        if not isinstance(source, ToySource):
            # Files may have faults; toy text would be generated for its digest.
            parallel = dict(parallel)
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


class CheckedData(NamedTuple):
    """What :func:`refuse_faulty` returns of a sweep without a fault."""

    sizes: Sequence[Sizes] = ()
    """Of files only."""
    trainings: Sequence[StageSize] = ()
    warnings: Sequence[SpecError] = ()
    """About what can be run and may mislead."""


def refuse_faulty(
    sweep: SweepSpec, facts: Facts, cache: Path, *, may_fetch: bool = True
) -> CheckedData:
    """Read every line of every file and every row of the hub that a sweep reads, and the headers of
    its model's files; the sweep fits its facts (:func:`xlt_ray.config.checks.check_sweep.check`).

    Args:
        cache: remembers splits without a fault.
        may_fetch: whether rows may be fetched from the hub; otherwise rows that its cache lacks are
            not checked, with a warning.

    Raises:
        SpecErrors: all faults, with file and line; the first five of each file.
    """
    trials = _probed_trials(sweep, facts)
    problems = [
        SpecError(problem, file=str(file), remedy=remedy)
        for name in dict.fromkeys(trial.model.name for trial in trials)
        if (folder := Path(name).expanduser()).is_dir()
        for file, problem, remedy in folder_faults(folder)
    ]
    source, verdicts = open_source(trials[0].data), Verdicts(cache)
    sizes: Sequence[Sizes] = ()
    warnings: list[str] = []
    absent: dict[str, None] = {}
    if not isinstance(source, ToySource):
        faults: list[DataError] = []
        with cached_only() if isinstance(source, HubSource) and not may_fetch else nullcontext():
            read, files = read_by(sweep, facts, faults), FileCheck(source, verdicts)
        for name, splits in read.splits.items():
            files.task(name, splits.read)
        files.texts(read.parallel.read, read.lexicon.read, read.neighbours.read, read.links.read)
        if not may_fetch:
            absent = {str(fault): None for fault in faults if NOT_CACHED in str(fault)}
        by_text = {str(error): error for error in (*faults, *files.errors)}
        problems += [spec_error(error) for text, error in by_text.items() if text not in absent]
        sizes = files.sizes
        warnings += [f"not looked at: {text.partition(';')[0]}" for text in absent]
        warnings += files.warnings
    if not problems and not absent:
        joins = JoinCheck(source, facts, verdicts)
        for trial in trials:
            joins.trial(trial)
        problems += map(spec_error, {str(error): error for error in joins.errors}.values())
        warnings += joins.warnings
    if problems:
        raise SpecErrors(problems)
    # Tasks that share a folder share the warnings about its other files.
    unique = [*warnings_of(sweep, facts), *map(SpecError, dict.fromkeys(warnings))]
    return CheckedData(sizes, stage_sizes(trials, facts), unique)


def asks_the_hub(sweep: SweepSpec) -> bool:
    """Whether facts of a sweep come from the Hugging Face Hub: those of its data, or of a model
    that is neither a folder nor a preset; never if the environment sets it offline."""
    from huggingface_hub import constants

    # The library reads its environment once, when it is imported.
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    trials = _probed_trials(sweep)
    names = {trial.model.name for trial in trials}
    return (isinstance(data := trials[0].data, HubData) and data.root is None) or any(
        not is_toy(name) and not Path(name).expanduser().is_dir() for name in names
    )


def text_shares(
    sweep: SweepSpec, facts: Facts, cache: Path, *, with_toys: bool = False
) -> list[TextShares]:
    """How models whose tokenizer is on this machine split what trials train and test on.

    Toy presets, of which there is nothing to say but lengths, only ``with_toys``. If a split is
    read with several ``max_length``, the smallest counts. The sweep has no fault
    (:func:`refuse_faulty`).
    """
    trials = _probed_trials(sweep, facts)
    uses: dict[tuple[Model, str, Split], tuple[int, set[str]]] = {}
    for trial in trials:
        for key, length, languages in _texts_read(with_lengths(trial, facts), facts):
            known_length, known = uses.get(key, (length, set()))
            uses[key] = min(length, known_length), {*known, *languages}
    source, verdicts = open_source(trials[0].data), Verdicts(cache)
    is_hub, shares = isinstance(source, HubSource), []
    for model in dict.fromkeys(model for model, *_ in uses):
        file = tokenizer_file(model)
        if file is None and not (with_toys and is_toy(model.name)):
            continue
        try:
            reader = PieceCheck(file, Path(model.label).name, source, verdicts)
        except Exception:  # noqa: BLE001
            # An error of the library; loading the model has a better message.
            continue
        for (used_model, name, split), (length, read) in uses.items():
            if used_model == model and read:
                splits = facts.tasks[name].splits
                # There is already a warning about rows that are not in the cache of the hub.
                with cached_only() if is_hub else nullcontext(), suppress(DataError):
                    digests = {
                        language: splits[language, split].digest for language in sorted(read)
                    }
                    shares.append(reader.shares(task_named(name), split, digests, length))
    return shares


def texts_of(measured: Iterable[TextShares], facts: Facts) -> dict[tuple[str, str, str, str], Text]:
    """Lengths by model, task, split and language, from :func:`text_shares`."""
    texts: dict[tuple[str, str, str, str], Text] = {}
    for shares in measured:
        for language, lengths in shares.lengths.items():
            number = facts.tasks[shares.task].splits[language, shares.split].num_examples
            key = (shares.model, shares.task, shares.split, language)
            texts[key] = Text(lengths.mean, lengths.longest, lengths.vocabulary(number))
    return texts


def probed_paths(sweep: SweepSpec, facts: Facts) -> list[StagePath]:
    """Paths of trials that cover the space of a sweep; none if the cache of the hub lacks rows."""
    trials = _probed_trials(sweep, facts)
    is_hub = isinstance(trials[0].data, HubData)
    # There is already a warning about these rows.
    with cached_only() if is_hub else nullcontext(), suppress(DataError):
        return [path_of(trial, facts, seed=0, shared_seed=0, sizes=sweep.sizes) for trial in trials]
    return []


def recorded_shape(store: StageStore, key: str, name: str) -> ModelFacts | None:
    """Shape of the encoder in a result; None if it has none that can be read."""
    with suppress(OSError, ValueError, ModelError):
        return shape_of(name, json.loads(store.storage.read(f"stages/{key}/config.json")))
    return None


def _texts_read(
    trial: TrialSpec, facts: Facts
) -> Iterator[tuple[tuple[Model, str, Split], int, Sequence[str]]]:
    """Model, task and split, maximal length and languages of what a trial trains and tests on."""
    target, source = trial.target, trial.target.source_language
    length = target.max_length or 0
    # Its tokenizer is the same, whatever is made of its layers and states.
    model = Model(**trial.model.model_dump(include={"name", "revision", "trust_remote_code"}))
    if trial.intermediate is not None:
        mixture = mixture_of(trial.intermediate, source, facts.tasks)
        for name in mixture.tasks:
            key: tuple[Model, str, Split] = (model, name, "train")
            yield key, trial.intermediate.max_length or 0, mixture.of(name)
    yield (model, target.task, "train"), length, (source,)
    for name in (target.task, *trial.evaluate.also):
        tested = trial.evaluate.languages_tested(facts.tasks[name], source)
        yield (model, name, "test"), length, tested
