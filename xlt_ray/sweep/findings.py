"""What the files of a sweep hold, before it starts: faults, doubts, sizes, shares of pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from xlt_ray.config.checks.check_evaluation import languages_tested
from xlt_ray.config.checks.check_schedules import StageSize, stage_sizes
from xlt_ray.config.checks.check_sweep import warnings_of
from xlt_ray.config.facts import Facts, Split
from xlt_ray.config.mixture import mixture_of
from xlt_ray.config.search_space import probes
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.config.trial import HubData, Model, TrialSpec, with_lengths
from xlt_ray.data.file_check import FileCheck, Sizes, Verdicts
from xlt_ray.data.join_check import JoinCheck
from xlt_ray.data.piece_check import PieceCheck, TextShares
from xlt_ray.data.sources.base import open_source
from xlt_ray.data.sources.hub.hub_source import HubSource
from xlt_ray.data.sources.hub.library import NOT_CACHED, cached_only
from xlt_ray.data.sources.toy.toy_source import ToySource
from xlt_ray.data.task import task_named
from xlt_ray.errors import DataError, SpecError, SpecErrors
from xlt_ray.modeling.model_files import folder_faults, tokenizer_file
from xlt_ray.modeling.toy_models import is_toy
from xlt_ray.sweep.read_facts import ANY_DEPTH, of_file, probes_of, read_by


class Findings(NamedTuple):
    """What :func:`refuse_faulty` tells of a sweep without a fault; sizes of files alone."""

    sizes: Sequence[Sizes] = ()
    trainings: Sequence[StageSize] = ()
    warnings: Sequence[SpecError] = ()
    """Of what can be run and may mislead."""


def refuse_faulty(
    sweep: SweepSpec, facts: Facts, cache: Path, *, may_fetch: bool = True
) -> Findings:
    """Read every line of every file and every row of the hub that a sweep reads, and the heads of
    its model's files; the sweep fits its facts (:func:`xlt_ray.config.checks.check_sweep.check`).

    Args:
        cache: where splits without a fault are remembered.
        may_fetch: whether rows may be fetched from the hub; else what its cache lacks is not looked
            at, and a warning says so.

    Raises:
        SpecErrors: all faults, with file and line; of a file the first five.
    """
    trials = [sweep.trial(tree) for tree, _ in probes_of(sweep, facts)]
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
        is_asked = may_fetch or not isinstance(source, HubSource)
        with nullcontext() if is_asked else cached_only():
            read, files = read_by(sweep, facts, faults), FileCheck(source, verdicts)
        for name, splits in read.splits.items():
            files.task(name, splits.read)
        files.parallel(read.parallel.read)
        files.lexicons(read.lexicon.read)
        files.neighbours(read.neighbours.read)
        files.links(read.links.read)
        if not may_fetch:
            absent = {str(fault): None for fault in faults if NOT_CACHED in str(fault)}
        by_text = {str(error): error for error in (*faults, *files.errors)}
        problems += [of_file(error) for text, error in by_text.items() if text not in absent]
        sizes = files.sizes
        warnings += [f"not looked at: {text.partition(';')[0]}" for text in absent]
        warnings += files.warnings
    if not problems and not absent:
        joins = JoinCheck(source, facts, verdicts)
        for trial in trials:
            joins.trial(trial)
        problems += [of_file(error) for error in joins.errors.values()]
        warnings += joins.warnings
    if problems:
        raise SpecErrors(problems)
    # Tasks that share a folder have the same files beside theirs.
    told = [*warnings_of(sweep, facts), *map(SpecError, dict.fromkeys(warnings))]
    return Findings(sizes, stage_sizes(trials, facts), told)


def asks_the_hub(sweep: SweepSpec) -> bool:
    """Whether the facts of a sweep are asked from the Hugging Face Hub: those of its data, or of a
    model that is neither a folder nor a preset; not where the environment says not to."""
    from huggingface_hub import constants

    # The library looks at its environment once, when it is imported.
    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    trials = [sweep.trial(tree) for tree, _ in probes(sweep.space, lambda _: ANY_DEPTH)]
    names = {trial.model.name for trial in trials}
    return (isinstance(data := trials[0].data, HubData) and data.root is None) or any(
        not is_toy(name) and not Path(name).expanduser().is_dir() for name in names
    )


def text_shares(sweep: SweepSpec, facts: Facts, cache: Path) -> list[TextShares]:
    """How models whose tokenizer lies on this machine read what trials train and test on.

    Of several ``max_length`` for a split the smallest is asked. The sweep has no fault
    (:func:`refuse_faulty`).
    """
    trials = [sweep.trial(tree) for tree, _ in probes_of(sweep, facts)]
    asked: dict[tuple[Model, str, Split], tuple[int, set[str]]] = {}
    for trial in trials:
        for key, length, languages in _texts_read(with_lengths(trial, facts), facts):
            known_length, known = asked.get(key, (length, set()))
            asked[key] = min(length, known_length), {*known, *languages}
    source, verdicts = open_source(trials[0].data), Verdicts(cache)
    is_hub, shares = isinstance(source, HubSource), []
    for model in dict.fromkeys(model for model, *_ in asked):
        file = tokenizer_file(model)
        if file is None:
            continue
        try:
            reader = PieceCheck(file, Path(model.label).name, source, verdicts)
        except Exception:  # noqa: BLE001
            # The library's own, of a file that loading the model complains about.
            continue
        for (of, name, split), (length, read) in asked.items():
            if of == model and read:
                splits = facts.tasks[name].splits
                # Rows that are not in the cache of the hub were told of before.
                with cached_only() if is_hub else nullcontext(), suppress(DataError):
                    digests = {
                        language: splits[language, split].digest for language in sorted(read)
                    }
                    shares.append(reader.shares(task_named(name), split, digests, length))
    return shares


def _texts_read(
    trial: TrialSpec, facts: Facts
) -> Iterator[tuple[tuple[Model, str, Split], int, Sequence[str]]]:
    """Model, task and split, length and languages of what a trial trains and tests on."""
    target, source = trial.target, trial.target.source_language
    length = target.max_length or 0
    if trial.intermediate is not None:
        mixture = mixture_of(trial.intermediate, source, facts.tasks)
        for name in mixture.tasks:
            key: tuple[Model, str, Split] = (trial.model, name, "train")
            yield key, trial.intermediate.max_length or 0, mixture.of(name)
    yield (trial.model, target.task, "train"), length, (source,)
    for name in (target.task, *trial.evaluate.also):
        tested = languages_tested(facts.tasks[name], trial.evaluate, source)
        yield (trial.model, name, "test"), length, tested
