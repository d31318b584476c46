"""What the files of a sweep hold, before it starts: faults, doubts, sizes, shares of pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xlt_ray.data.file_check import FileCheck, Sizes, Verdicts
from xlt_ray.data.files import FilesSource
from xlt_ray.data.hub.source import HubSource
from xlt_ray.data.join_check import JoinCheck
from xlt_ray.data.piece_check import PieceCheck, TextShares
from xlt_ray.data.source import open_source
from xlt_ray.data.task import task_named
from xlt_ray.errors import SpecError, SpecErrors
from xlt_ray.modeling.model_files import folder_faults, tokenizer_file
from xlt_ray.spec.check import warnings_of
from xlt_ray.spec.examined import languages_tested
from xlt_ray.spec.facts import Facts, Split
from xlt_ray.spec.lengths import with_lengths
from xlt_ray.spec.mixture import mixture_of
from xlt_ray.spec.stage_sizes import StageSize, stage_sizes
from xlt_ray.spec.sweep import SweepSpec
from xlt_ray.spec.trial import Model, TrialSpec
from xlt_ray.sweep.facts import of_file, probes_of, read_by


class Findings(NamedTuple):
    """What :func:`refuse_faulty` tells of a sweep without a fault; sizes of files alone."""

    sizes: Sequence[Sizes] = ()
    trainings: Sequence[StageSize] = ()
    warnings: Sequence[SpecError] = ()
    """Of what can be run and may mislead."""


def refuse_faulty(sweep: SweepSpec, facts: Facts, cache: Path) -> Findings:
    """Read every line of every file and every row of the hub that a sweep reads, and the heads of
    its model's files; the sweep fits its facts (:func:`xlt_ray.spec.check.check`).

    Args:
        cache: where splits without a fault are remembered.

    Raises:
        SpecErrors: all faults, with file and line; of a file the first five.
        DataError: the first fault of a row of the hub.
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
    # Digests of the hub's splits are over their rows, so that naming the stages reads every row.
    read = read_by(sweep, facts)
    texts = source.texts if isinstance(source, HubSource) else source
    if isinstance(texts, FilesSource):
        files = FileCheck(texts, verdicts)
        for name, splits in read.splits.items():
            if texts is source or not task_named(name).hub:
                files.task(name, splits.read)
        files.parallel(read.parallel.read)
        files.lexicons(read.lexicon.read)
        files.neighbours(read.neighbours.read)
        files.links(read.links.read)
        problems += [of_file(error) for error in files.errors]
        sizes = files.sizes
        warnings += files.warnings
    if not problems:
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
    found = []
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
                digests = {one: splits[one, split].digest for one in sorted(read)}
                found.append(reader.shares(task_named(name), split, digests, length))
    return found


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
