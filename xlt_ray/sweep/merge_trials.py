"""``xlt merge``: networks of finished trials become one, which is scored as they were.

A merge is a stage of the store, with a key made of its members' keys and its method; the evaluation
of its members follows it. So the same merge asked for again makes nothing, and one that was killed
goes on. It holds its own weights: its members may be freed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xlt_ray.config.methods import Merge
from xlt_ray.config.sweep import modes_of
from xlt_ray.errors import LedgerError
from xlt_ray.home import Home
from xlt_ray.ledger import AskedTrial, Ledger, TrialView
from xlt_ray.ledger.merges import Merged, keep_merge
from xlt_ray.ledger.views import complete_by_configuration, ranked
from xlt_ray.store.stage import Stage, head_seed_of
from xlt_ray.store.stage_path import StagePath, encoder_of
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.scheduler import objective_value
from xlt_ray.sweep.tasks import Planner, TrialTask

if TYPE_CHECKING:
    from xlt_ray.training.events import Event

_OF_NETWORK = ("task", "source_language", "fusion", "ranking", "precision")
"""Settings of a target stage that say what network it is."""


@dataclass(frozen=True)
class Group:
    """Trials whose networks are merged, the best first."""

    what: str
    trials: tuple[TrialView, ...]


def seed_groups(ledger: Ledger, top: int | None) -> list[Group]:
    """The complete seeds of each of the ``top`` best configurations, or of all.

    Raises:
        LedgerError: no configuration has two.
    """
    complete = complete_by_configuration(ledger.trials())
    groups = [
        Group(f"seeds of configuration {configuration}", _best_first(ledger, trials))
        for configuration in _ranking(ledger)[:top]
        if len(trials := complete[configuration]) > 1
    ]
    if not groups:
        raise LedgerError(f"{ledger.name}: no configuration has two complete seeds to merge")
    return groups


def top_group(ledger: Ledger, top: int) -> Group:
    """A trial of each of the ``top`` best configurations, on the seed of the best trial where they
    have it.

    Raises:
        LedgerError: fewer configurations are complete.
    """
    ranking, best = _ranking(ledger), ledger.best()
    if best is None or len(ranking) < top:
        raise LedgerError(
            f"{ledger.name}: {len(ranking)} configurations are complete, not {top}, to merge"
        )
    complete = complete_by_configuration(ledger.trials())
    chosen = [
        next(
            (trial for trial in complete[number] if trial.seed == best.trial.seed),
            _best_first(ledger, complete[number])[0],
        )
        for number in ranking[:top]
    ]
    return Group(f"best {top} configurations", _best_first(ledger, chosen))


def _ranking(ledger: Ledger) -> list[int]:
    sweep = ledger.sweep
    return ranked(ledger.trials(), sweep["search"]["seeds"], *modes_of(sweep["objective"]))


def _best_first(ledger: Ledger, trials: Sequence[TrialView]) -> tuple[TrialView, ...]:
    sign = -1 if ledger.is_maximized else 1
    return tuple(sorted(trials, key=lambda trial: (sign * (trial.objective or 0), trial.number)))


@dataclass(frozen=True)
class Merger:
    """Makes merges of one sweep."""

    planner: Planner
    home: Home
    ledger: Ledger
    store: StageStore
    walk: Callable[[TrialTask], Iterator[Event]]
    """Makes the stages of a task."""

    def merge(
        self, group: Group, settings: Merge, language: TrialView | None = None
    ) -> Iterator[Event]:
        """Merge all trials of a group, and list the result; yields the events of what is made.

        Args:
            language: a trial whose encoder before its target stage is the language model.

        Raises:
            LedgerError: the trials cannot be merged; nothing was made.
        """
        merged = yield from self._made(group.what, group.trials, settings, language)
        keep_merge(self.home, self.ledger.name, merged)

    def greedy(self, group: Group, settings: Merge) -> Iterator[Event]:
        """The greedy soup (arXiv 2203.05482, recipe 1): each trial, the best first, is added if
        the merge with it has no lower objective. It is listed if it has more than one member, so
        that what is listed is never worse than the best trial."""
        soup, best = group.trials[:1], group.trials[0].objective
        assert best is not None, "a complete trial has an objective"
        sign = 1 if self.ledger.is_maximized else -1
        kept = None
        # All are refused before one is made.
        self._path(group.trials, settings, None)
        for trial in group.trials[1:]:
            merged = yield from self._made(f"greedy: {group.what}", (*soup, trial), settings, None)
            if sign * merged.objective >= sign * best:
                soup, best, kept = (*soup, trial), merged.objective, merged
        if kept is not None:
            keep_merge(self.home, self.ledger.name, kept)

    def _made(
        self,
        what: str,
        trials: Sequence[TrialView],
        settings: Merge,
        language: TrialView | None,
    ) -> Generator[Event, None, Merged]:
        path, tasks = self._path(trials, settings, language)
        _, merge, evaluation = path
        if merge not in self.store and evaluation not in self.store:
            for task in tasks:
                # Members that the store has lost are trained again.
                for event in self.walk(task):
                    if not getattr(event, "reused", True):
                        yield event
        yield from self.walk(replace(tasks[0], path=path, until=""))
        source = evaluation.settings["source_language"]
        scores = self.store[evaluation].scores
        objective = self.planner.sweep.settings.objective
        return Merged(
            what,
            settings.model_dump(),
            tuple(trial.number for trial in trials),
            merge.key,
            evaluation.key,
            objective_value(scores, objective, source),
        )

    def _path(
        self, trials: Sequence[TrialView], settings: Merge, language: TrialView | None
    ) -> tuple[StagePath, list[TrialTask]]:
        """Model, merge and evaluation; and the tasks that make the members."""
        # In one order, so that the same trials give the same key.
        ordered = sorted(trials, key=lambda trial: trial.number)
        tasks = [self._task(trial) for trial in ordered]
        names = [f"trial {trial.number}" for trial in ordered]
        members = [task.path[-2] for task in tasks]
        _refuse_unlike(names, [task.path for task in tasks], settings)
        if language is not None:
            task = self._task(language)
            before = encoder_of(task.path[-2])
            if before.is_pretrained or task.path[0].key != tasks[0].path[0].key:
                raise LedgerError(
                    f"trial {language.number} has no encoder before its target stage that was "
                    f"trained from the model of {names[0]}"
                )
            members.append(before)
            tasks.append(replace(task, until=before.key))
        first = members[0]
        merge = Stage(
            kind="merge",
            settings={
                **{name: first.settings[name] for name in _OF_NETWORK if name in first.settings},
                "merge": settings.model_dump(),
            },
            data={},
            seed=first.seed,
            parent=encoder_of(first),
            label=f"merge {settings.model_dump()['method']} of {len(members)}",
            members=tuple(members),
        )
        evaluation = replace(tasks[0].path[-1], parent=merge)
        return (tasks[0].path[0], merge, evaluation), tasks

    def _task(self, view: TrialView) -> TrialTask:
        asked = AskedTrial(view.number, dict(view.assignment), view.seed, view.attempts)
        task = self.planner.task(asked, self.home)
        if task.path[-1].key != view.evaluation_key:
            raise LedgerError(
                f"trial {view.number} was made with other data, weights or code: it cannot be "
                "merged"
            )
        made_by = {name: value for name, value in task.made_by.items() if name != "trial"}
        return replace(task, until=task.path[-2].key, made_by=made_by)


def _refuse_unlike(names: Sequence[str], paths: Sequence[StagePath], settings: Merge) -> None:
    """Raise LedgerError where weights of trials cannot be merged, or their scores not compared."""
    for name, path in zip(names, paths, strict=True):
        if path[-2].kind != "target":
            raise LedgerError(f"{name} was trained on few shots: it cannot be merged")
        why = _difference(paths[0], path, settings)
        if why:
            raise LedgerError(f"{names[0]} and {name} cannot be merged: {why}")


def _difference(one: StagePath, other: StagePath, settings: Merge) -> str:
    """Why two trials cannot be merged; empty if they can."""
    if one[0].key != other[0].key:
        return "they start from different models"
    first, second = one[-2], other[-2]
    if any(first.settings.get(name) != second.settings.get(name) for name in _OF_NETWORK):
        return "task, source language, fusion, ranking or precision differ"
    seeds = head_seed_of(first), head_seed_of(second)
    if seeds[0] != seeds[1]:
        return (
            f"their heads began with different weights (seeds {seeds[0]} and {seeds[1]}); seeds of "
            "a sweep with target.head_seed can be merged"
        )
    if settings.needs_base and encoder_of(first).key != encoder_of(second).key:
        return "they began with different encoders; --method mean can merge them"
    if replace(one[-1], parent=None).key != replace(other[-1], parent=None).key:
        return "they are evaluated differently (languages, data, max_length, supervision)"
    return ""
