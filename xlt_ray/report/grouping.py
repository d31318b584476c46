"""Groups of languages that tables give means of: by family, script, resources, and what was seen.

A group is a fixed set of languages of one table, the same for every row; the source language is
in none, so that a group's mean is of transfer alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlt_ray.errors import SpecError, nearest
from xlt_ray.ledger import TrialView
from xlt_ray.report.labels import DescribeLanguage
from xlt_ray.report.snapshot import Snapshot, target_of
from xlt_ray.spec.source import parse_document


@dataclass(frozen=True)
class Group:
    """One group of one grouping (``family``, ``script``, ``resources``, ``seen``, a file's)."""

    grouping: str
    name: str
    languages: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.grouping}: {self.name}"


MAX_DRAWN = 4
"""Groups of languages in a figure, beside the source language and the mean of the others."""

Groupings = Mapping[str, Mapping[str, Sequence[str]]]
"""Grouping -> group -> languages."""


def read_groupings(path: str | Path) -> Groupings:
    """A file of groups: YAML with one key a group and a list of language codes below it.

    Raises:
        SpecError: the file cannot be read or is not of that form; with its line.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read ({error})", file=file) from None
    document = parse_document(text, file)
    for name, languages in document.tree.items():
        if not isinstance(languages, list) or not languages or not all(
            isinstance(one, str) for one in languages
        ):  # fmt: skip
            place = document.places[name]
            raise SpecError(
                "is not a list of languages",
                file=file,
                line=place.line,
                key=name,
                remedy="write GROUP: [CODE, CODE], for example nordic: [da, nb, sv]",
            )
    return {Path(path).stem: document.tree}


def known_groupings(
    languages: Iterable[str], describe: DescribeLanguage | None
) -> dict[str, dict[str, list[str]]]:
    """By family, script and resource class, as far as they are known."""
    found: dict[str, dict[str, list[str]]] = {}
    for code in sorted(languages) if describe is not None else ():
        told = describe(code)  # type: ignore[misc]
        for grouping in ("resources", "script", "family"):
            name = getattr(told, grouping)
            found.setdefault(grouping, {}).setdefault(name, []).append(code)
    return found


def seen_grouping(
    snapshot: Snapshot, languages: Iterable[str], seen: Sequence[str] = ()
) -> dict[str, dict[str, list[str]]]:
    """Languages that trainings had text in, and those that they had not: alignment, intermediate
    tasks and cross-lingual batches.

    A language that some trials saw and others did not is in a group of its own, because a mean
    must be over the same languages in every row. Trials that saw no other language at all (the
    baselines) do not count. Without such data, and without ``seen``, there is no such grouping.

    Args:
        seen: the languages that count as seen, for example those of the encoder's pre-training;
            replaces what the stages say.
    """
    if seen:
        sets = [frozenset(seen)]
    else:
        sets = [one for view in snapshot.trials if (one := _seen_by(snapshot, view))]
    if not sets:
        return {}
    always, ever = frozenset.intersection(*sets), frozenset.union(*sets)
    found: dict[str, list[str]] = {}
    for code in sorted(languages):
        name = "seen" if code in always else "seen by some" if code in ever else "unseen"
        found.setdefault(name, []).append(code)
    return {"seen": found}


def groups_of(
    groupings: Groupings, languages: Sequence[str], source: str, left_out: Sequence[str] = ()
) -> tuple[Group, ...]:
    """The groups of a table: those of its languages that are in each, the source left out.

    Groups without a language of the table, and those that are all of its target languages (their
    mean stands in the table already), are left out.

    Args:
        left_out: languages that no mean over a group may rest on.
    """
    others = [code for code in languages if code != source]
    found = []
    for grouping, groups in groupings.items():
        for name in sorted(groups):
            inside = set(groups[name]).difference(left_out)
            members = tuple(code for code in others if code in inside)
            if members and len(members) < len(others):
                found.append(Group(grouping, name, members))
    return tuple(found)


def without_members(groupings: Groupings, languages: Iterable[str]) -> Iterator[str]:
    """Complaints about groups that hold none of the languages that are scored, the source left
    out: no table has them."""
    scored = sorted(set(languages))
    for grouping, groups in groupings.items():
        for name, codes in groups.items():
            if scored and not set(codes).intersection(scored):
                yield (
                    f"{grouping}: {name}: no target language that is scored is one of "
                    f"{', '.join(codes)}, so no table has this group; {nearest(codes[0], scored)}"
                )


def drawn_groups(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups that a figure has room for: those of one grouping, as groupings overlap.

    A file's comes before classes of resources, families, scripts and what was seen; the first one
    is taken that has no more than ``MAX_DRAWN`` groups, and none where all have more.
    """
    found: dict[str, list[Group]] = {}
    for one in groups:
        found.setdefault(one.grouping, []).append(one)
    known = ("resources", "family", "script", "seen")
    order = [*(one for one in found if one not in known), *(one for one in known if one in found)]
    return next((tuple(found[one]) for one in order if len(found[one]) <= MAX_DRAWN), ())


def _seen_by(snapshot: Snapshot, view: TrialView) -> frozenset[str]:
    """Languages other than the source that a trial was trained in, few shots left out."""
    _, source = target_of(snapshot.sweep, view.assignment)
    seen: set[str] = set()
    for one in view.stages:
        record = snapshot.records.get(one.key)
        if record is None or one.kind in ("few_shot", "evaluate"):
            continue
        data: Any = record.payload["data"]
        settings: Any = record.payload["settings"]
        # Of alignment, and of masked words beside an intermediate task.
        seen |= set(data.get("parallel", ()))
        seen |= set(settings.get("hybrid", {}).get("languages", ()))
        if isinstance(data.get("train"), Mapping):
            # An intermediate stage of several tasks or languages: by task and language.
            seen |= {code for by_language in data["train"].values() for code in by_language}
        elif "source_language" in settings:
            seen.add(settings["source_language"])
    return frozenset(seen - {source})
