"""Which stages of a store the sweeps of a home still want: what may not be freed, and why.

What a trial noted in its ledger is known; what a waiting trial will use is not, without the
facts of its sweep. So the stages of a configuration are kept while repeats or retries of it are
to come, and the stages before the target while a sweep may ask for further configurations that
share them; only where a real-valued range decides them is it clear that none will.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.errors import SpecError
from xlt_ray.home import Home
from xlt_ray.ledger import Ledger, TrialView
from xlt_ray.spec.distributions import FloatRange, distributions_in
from xlt_ray.spec.source import parse_document
from xlt_ray.spec.space import Space, grid, split_space
from xlt_ray.spec.sweep import SEARCHABLE
from xlt_ray.stages.freeing import Claims
from xlt_ray.stages.lease import find_holder
from xlt_ray.stages.path import Path, lenders, made
from xlt_ray.stages.storage import Storage

_BEFORE_TARGET = ("model", "align", "intermediate")
"""Sections of a sweep file that decide a stage before the target."""
_DECIDED_BY = {"align": ("model", "align"), "target": (*_BEFORE_TARGET, "target")}


@dataclass(frozen=True)
class SweepUse:
    """What one sweep has done with the store, and may still do."""

    name: str
    trials: tuple[TrialView, ...]
    num_configurations: int
    """How many it asks in all."""
    seeds: int = 1
    best: int | None = None
    """Number of the best trial of the best configuration."""
    real_knobs: frozenset[str] = frozenset()
    """Dotted paths of its real-valued ranges."""
    is_at_work: bool = False

    @property
    def open_configurations(self) -> frozenset[int]:
        """Configurations of which a trial is not finished, or not asked yet."""
        repeats: dict[int, set[int]] = {}
        for one in self.trials:
            repeats.setdefault(one.configuration, set()).add(one.repeat)
        return frozenset(
            {one.configuration for one in self.trials if not one.is_finished}
            | {number for number, there in repeats.items() if len(there) < self.seeds}
        )

    @property
    def is_unfinished(self) -> bool:
        asked = len({one.configuration for one in self.trials})
        return asked < self.num_configurations or bool(self.open_configurations)


def use_of(ledger: Ledger, *, is_at_work: bool) -> SweepUse:
    """What a ledger says of its sweep's use of the store."""
    search, best = ledger.sweep["search"], ledger.best()
    space = _space_of(ledger.sweep, ledger.name)
    return SweepUse(
        name=ledger.name,
        trials=tuple(ledger.trials()),
        num_configurations=_num_configurations(search, space),
        seeds=search["seeds"],
        best=None if best is None else best.trial.number,
        real_knobs=frozenset(
            path for path, node in distributions_in(space.tree) if isinstance(node, FloatRange)
        ),
        is_at_work=is_at_work,
    )


def is_at_work(home: Home, name: str) -> bool:
    """Whether a driver runs this sweep now."""
    holder = find_holder(Storage(home.root), home.driver_lease(name))
    return holder is not None and holder.is_alive


def claims_of(
    uses: Iterable[SweepUse],
    *,
    own: str = "",
    paths: Sequence[Path] = (),
    present: Container[str] = (),
    ended: frozenset[str] = frozenset(),
    is_store_shared: bool = False,
) -> Claims:
    """What all sweeps of a home claim of one store.

    Args:
        own: the sweep of the caller, who knows the paths of all its running trials.
        paths: of trials that the caller runs, holds back or is about to hand out.
        present: keys of committed stages.
        ended: keys on paths of the caller's trials that have ended.
        is_store_shared: whether other homes may keep their stages in the same store.
    """
    needed = {key for path in paths for key in still_needed(path, present)}
    best: set[str] = set()
    returning: set[str] = set()
    users: dict[str, set[tuple[str, int]]] = {}
    unfinished: list[str] = []
    names: set[str] = set()
    unfinished_trials: set[tuple[str, int]] = set()
    for use in uses:
        names.add(use.name)
        coming_back = set(_coming_back(use))
        # A second driver asks whenever it likes: what it may come back to is needed now.
        (needed if use.is_at_work and use.name != own else returning).update(coming_back)
        needed.update(_needed(use))
        if use.name != own:
            unfinished_trials |= {
                (use.name, view.number) for view in use.trials if not view.is_finished
            }
        for view in use.trials:
            for one in view.stages:
                users.setdefault(one.key, set()).add((use.name, view.configuration))
                if view.number == use.best and one.kind in ("target", "few_shot"):
                    best.add(one.key)
        if any(_has_unknown_path(one, is_own=use.name == own) for one in use.trials):
            unfinished.append(use.name)
    return Claims(
        needed=frozenset(needed),
        best=frozenset(best),
        returning=frozenset(returning),
        shared=frozenset(key for key, found in users.items() if len(found) > 1),
        used=frozenset(users),
        unfinished=tuple(unfinished),
        unfinished_trials=frozenset(unfinished_trials),
        ended=ended - needed,
        home_sweeps=frozenset(names) if is_store_shared else None,
    )


def still_needed(path: Path, present: Container[str]) -> tuple[str, ...]:
    """Keys of a path that its trial still needs: the deepest stage that is there, and the rest.

    What that one was made from is needed no more, but for the encoder below a trunk, and for the
    one before the target training where retrieval asks for it.
    """
    stages = made(path)
    deepest = max((index for index, one in enumerate(stages) if one.key in present), default=0)
    needed = [one.key for one in stages[deepest:]]
    for stage in stages[deepest + 1 : deepest + 2]:
        needed[:0] = [one.key for one in lenders(stage) if one.key not in needed]
    return tuple(needed)


def _needed(use: SweepUse) -> Iterable[str]:
    """Keys that trials which are not finished need, as far as the ledger knows them."""
    retried = {one.retry_of for one in use.trials if not one.is_finished}
    in_work = {one.configuration for one in use.trials if not one.is_finished}
    for view in use.trials:
        is_own_work = view.state == "running" or view.number in retried
        for one in view.stages:
            if is_own_work or (
                view.configuration in in_work and one.kind not in ("target", "few_shot")
            ):
                yield one.key


def _coming_back(use: SweepUse) -> Iterable[str]:
    """Keys of stages that trials which were not asked yet may share."""
    if not use.is_unfinished:
        return
    still_open = use.open_configurations
    for view in use.trials:
        for one in view.stages:
            if one.kind in ("few_shot", "evaluate"):
                continue
            # Trials that differ in their shots alone go on from one target stage.
            if one.kind == "target" and not any(
                path.partition(".")[0] == "few_shot" for path in view.assignment
            ):
                continue
            sections = _DECIDED_BY.get(one.kind, _BEFORE_TARGET)
            is_unique = any(
                path in use.real_knobs and path.partition(".")[0] in sections
                for path in view.assignment
            )
            if not is_unique or view.configuration in still_open:
                yield one.key


def _has_unknown_path(view: TrialView, *, is_own: bool) -> bool:
    """Whether a trial may have progress under a key that is noted nowhere."""
    return (view.state == "running" and not is_own) or (
        view.state == "waiting" and view.retry_of is not None
    )


def _space_of(sweep: Mapping[str, Any], name: str) -> Space:
    document = parse_document(json.dumps(sweep["space"], ensure_ascii=False), name)
    return split_space(document, ("data", *SEARCHABLE), fixed=("data",))


def _num_configurations(search: Mapping[str, Any], space: Space) -> int:
    trials = int(search["trials"])
    if search["sampler"] != "grid":
        return trials
    try:
        points = sum(1 for _ in itertools.islice(grid(space), trials))
    except SpecError:
        # Its ranges follow the model: how many points it has cannot be said here.
        return trials
    return min(trials, points + len(search["first"]))
