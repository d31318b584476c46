"""The data, weights and code that the trials of a sweep are made with, for each of its starts.

A sweep file names data and models by their places, whose content may change between two starts. The
ledger keeps the *facts* that determine results (:func:`xlt_ray.sweep.read_facts.used_facts`) in
numbered sets, and the number of its set with every trial. Trials of two sets are mixed only if the
user accepts it.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xlt_ray.errors import LedgerError
from xlt_ray.store.canonical import from_fields

if TYPE_CHECKING:
    from xlt_ray.ledger.ledger import Ledger
    from xlt_ray.ledger.views import TrialView

MAX_CHANGES = 8
"""Changes in one message."""
COMMIT_DIGITS = 40
"""Length of a commit of the hub; digests are longer."""


@dataclass(frozen=True)
class MadeWith:
    """What one start of a sweep makes its trials with."""

    facts: Mapping[str, str]
    """Name -> digest or version of everything that determines results."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library -> version; these may or may not change results."""
    commit: str = ""
    """Commit of xlt-ray's checkout; empty without one."""


@dataclass(frozen=True)
class Start:
    """One start of a sweep, as the ledger keeps it."""

    time: str
    """ISO, UTC."""
    facts: int
    """Number of its set of facts, from 1."""
    versions: Mapping[str, str]
    commit: str


@dataclass(frozen=True)
class Change:
    """A fact that differs between two sets; None in a set that lacks it."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} is new"
        if self.after is None:
            return f"{self.name} is gone"
        return f"{self.name}: {self.before[:10]} -> {self.after[:10]}"


def facts_label(numbers: Iterable[int]) -> str:
    """Numbers of sets of facts, as tables have them.

    >>> facts_label([2, 1, 2])
    '1+2'
    """
    return "+".join(map(str, sorted(set(numbers))))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs between two sets of facts, in their order.

    >>> [str(change) for change in changes({"nli en train": "a", "nli de test": "b"},
    ...                              {"nli en train": "c", "nli fr test": "d"})]
    ['nli en train: a -> c', 'nli de test is gone', 'nli fr test is new']
    """
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    )


def listed(changes: Iterable[Change]) -> str:
    """Changes in one line: the first few, and the number of the others."""
    texts = [str(change) for change in changes]
    more = len(texts) - MAX_CHANGES
    return "; ".join(texts[:MAX_CHANGES]) + (f"; and {more} more" if more > 0 else "")


def mixed_facts(trials: Iterable[TrialView]) -> str:
    """A warning beside a ranking of these trials; empty if all were made with one set of facts."""
    counts = Counter(trial.facts for trial in trials if trial.state in ("complete", "pruned"))
    if len(counts) < 2:
        return ""
    counted = ", ".join(
        f"{number} trial{'' if number == 1 else 's'} with "
        + (f"facts {which}" if which else "facts that were not kept")
        for which, number in sorted(counts.items())
    )
    return (
        "data, weights or code have changed between trials, which are ranked together all the "
        f"same: {counted}"
    )


def starts_of(ledger: Ledger) -> list[Start]:
    """Every start of a sweep, as far as its ledger has kept them."""
    return [from_fields(Start, start) for start in _numbered(ledger, START).values()]


def fact_sets_of(ledger: Ledger) -> dict[int, Mapping[str, str]]:
    """Every set of facts that trials were made with, by its number."""
    return _numbered(ledger, FACTS)


def changed_since(
    ledger: Ledger, facts: Mapping[str, str]
) -> tuple[Start | None, tuple[Change, ...]]:
    """The last start by which trials were scored, and what has changed since."""
    scored = {trial.facts for trial in _scored(ledger)}
    last = next((start for start in reversed(starts_of(ledger)) if start.facts in scored), None)
    return last, () if last is None else changes(fact_sets_of(ledger)[last.facts], facts)


def _scored(ledger: Ledger) -> list[TrialView]:
    """Trials with scores; the others will be made with the facts of a later start."""
    return [trial for trial in ledger.trials() if trial.curve or trial.state == "complete"]


def begin(ledger: Ledger, made_with: MadeWith, *, accept_changes: bool = False) -> tuple[str, ...]:
    """Note a start and what its trials are made with; returns lines for the user.

    Raises:
        LedgerError: a fact has changed since earlier trials, and the change is not accepted;
            nothing is noted.
    """
    sets, starts = fact_sets_of(ledger), starts_of(ledger)
    last, changed = changed_since(ledger, made_with.facts)
    news: list[str] = []
    if last is not None and changed:
        if not accept_changes:
            raise LedgerError(_refusal(ledger, last, changed, made_with))
        news.append(f"changes accepted since the start of {last.time}: {listed(changed)}")
    elif last is None and _scored(ledger):
        news.append(
            "this ledger does not know what earlier trials were made with (data, "
            "weights, code); they are marked as such"
        )
    if starts and (versions := _other_versions(starts[-1], made_with)):
        news.append(f"versions differ from those of the last start: {versions}")
    known = (number for number, facts in sets.items() if facts == made_with.facts)
    number = next(known, len(sets) + 1)
    if number not in sets:
        ledger.note(f"{FACTS}:{number}", dict(made_with.facts))
    start = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "facts": number,
        "versions": dict(made_with.versions),
        "commit": made_with.commit,
    }
    ledger.note(f"{START}:{len(starts)}", start)
    ledger.facts = number
    return tuple(news)


FACTS, START = "facts", "start"
"""Attributes of the study, each with a number behind a colon."""


def _numbered(ledger: Ledger, name: str) -> dict[int, Any]:
    attributes = ledger.study.user_attrs
    parts = (key.partition(":") for key in attributes)
    numbers = sorted(int(number) for key, _, number in parts if key == name)
    return {number: attributes[f"{name}:{number}"] for number in numbers}


def _refusal(ledger: Ledger, last: Start, changed: tuple[Change, ...], made_with: MadeWith) -> str:
    versions, pinned = _other_versions(last, made_with), ""
    # Another xlt-ray may read the same files as other examples.
    code = f" (versions differ, too: {versions})" if versions else ""
    model = ledger.sweep["space"].get("model")
    moved = [
        change
        for change in changed
        if change.name.startswith("model ")
        and change.before is not None
        and len(change.before) == COMMIT_DIGITS
    ]
    if moved and not (isinstance(model, Mapping) and "choice" in model):
        pinned = f"model.revision: {moved[0].before} goes on with the old weights, "
    return (
        f"{ledger.name}: what its trials are made with has changed since the start of "
        f"{last.time}: {listed(changed)}{code}; trials before and after would not compare: undo "
        f"the change, {pinned}or give the sweep another name (stages that did not change are "
        "shared all the same), or go on with --accept-changes, which marks the trials wherever "
        "they are shown"
    )


def _other_versions(last: Start, made_with: MadeWith) -> str:
    """Libraries and the commit that differ, in one line; empty if none does."""
    versions = [
        f"{name} {last.versions.get(name, 'none')} -> {made_with.versions.get(name, 'none')}"
        for name in dict.fromkeys([*last.versions, *made_with.versions])
        if last.versions.get(name) != made_with.versions.get(name)
    ]
    if last.commit != made_with.commit:
        versions.append(f"commit {_short(last.commit)} -> {_short(made_with.commit)}")
    return ", ".join(versions)


def _short(commit: str) -> str:
    """Ten digits of a commit, with ``+`` where files differed from it."""
    return f"{commit[:10]}{'+' * commit.endswith('+')}" or "none"
