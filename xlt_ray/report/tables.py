"""Tables of a sweep: one row a configuration, its seeds averaged, one column a language.

Every configuration has a row, the source language comes first, and missing cells stay visible. A
mean over languages exists only for configurations that have every one of them in every seed, so
that all means of a column are over the same languages. Deviations are the sample standard deviation
over seeds; one seed has none. A group (family, script, resources, seen or not, or from a file) is a
fixed set of target languages. Scores after few shots are in tables of their own.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from xlt_ray.config.languages import language
from xlt_ray.config.seed_race import level_of, seed_levels
from xlt_ray.config.supervision import INTERMEDIATE, TRANSLATE_TRAIN, ZERO_SHOT
from xlt_ray.config.task_types import TOO_FEW_ITEMS
from xlt_ray.config.yaml import parse_document
from xlt_ray.errors import SpecError, nearest
from xlt_ray.ledger import TrialView, facts_label
from xlt_ray.report.frames import TRIAL_COLUMNS, Snapshot, scores_frame, target_of, trials_frame
from xlt_ray.report.stats import Trained, shared_by, spread_note, student_quantile, trained_stages

MARKS = {TRANSLATE_TRAIN: "‡", INTERMEDIATE: "§"}
"""Configurations that are not zero-shot, and those with an intermediate task in a language that is
scored (:mod:`xlt_ray.config.supervision`)."""
TEX_MARKS = {TRANSLATE_TRAIN: r"$^{\ddagger}$", INTERMEDIATE: r"$^{\S}$"}
_MEANING = {
    TRANSLATE_TRAIN: "TRANSLATE-TRAIN, not zero-shot (labels of the source language were learned "
    "on training text in these scored languages)",
    INTERMEDIATE: "INTERMEDIATE LABELS (an intermediate task had labels in these scored languages)",
}
MAX_NAMED = 12
"""Configurations that a note about marks names."""
MAX_LISTED = 40
"""Configurations of one set of facts that a note names."""


def marks(supervision: str, by_kind: dict[str, str] = MARKS) -> str:
    """The marks of a configuration.

    >>> marks("translate-train (de, fr)"), marks("zero-shot")
    ('‡', '')
    """
    return "".join(mark for kind, mark in by_kind.items() if kind in supervision)


def is_translate_train(supervision: str) -> bool:
    """Whether labels were learned on text in a language that is scored."""
    return TRANSLATE_TRAIN in supervision


def note(configurations: Iterable[tuple[int, str]]) -> str:
    """What has to stand where configurations are compared; empty where none is marked.

    >>> print(note([(0, "zero-shot"), (2, "translate-train (de)"), (3, "translate-train (de)")]))
    TRANSLATE-TRAIN, not zero-shot (labels of the source language were learned on training text in \
these scored languages): configurations 2, 3 (de).
    """
    by_kind: dict[str, dict[str, list[int]]] = {}
    for configuration, supervision in configurations:
        for part in supervision.split("; "):
            kind, _, languages = part.partition(" (")
            by_languages = by_kind.setdefault(kind, {})
            by_languages.setdefault(languages.rstrip(")"), []).append(configuration)
    sentences = []
    for kind in filter(by_kind.get, MARKS):
        parts = [f"{_listed(numbers)} ({codes})" for codes, numbers in by_kind[kind].items()]
        sentences.append(f"{_MEANING[kind]}: {'; '.join(parts)}.")
    return " ".join(sentences)


def _listed(numbers: list[int]) -> str:
    """Configurations by number, of many how many they are.

    >>> _listed([1]), _listed([1, 3]), _listed(list(range(40)))
    ('configuration 1', 'configurations 1, 3', '40 configurations, which are marked')
    """
    if len(numbers) > MAX_NAMED:
        return f"{len(numbers)} configurations, which are marked"
    return f"configuration{'s' * (len(numbers) > 1)} {', '.join(map(str, sorted(numbers)))}"


# -- groups of languages ------------------------------------------------------------------

MAX_DRAWN = 4
"""Groups of languages in a figure, beside the source language and the mean of the others."""
Groupings = Mapping[str, Mapping[str, Sequence[str]]]
"""Grouping -> group -> languages."""


@dataclass(frozen=True)
class Group:
    """One group of one grouping (``family``, ``script``, ``resources``, ``seen``, a file's)."""

    grouping: str
    name: str
    languages: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.grouping}: {self.name}"


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
            isinstance(language, str) for language in languages
        ):  # fmt: skip
            raise SpecError(
                "is not a list of languages",
                file=file,
                line=document.places[name].line,
                key=name,
                remedy="write GROUP: [CODE, CODE], for example nordic: [da, nb, sv]",
            )
    return {Path(path).stem: document.tree}


def known_groupings(languages: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """By resource class, script and family."""
    groupings: dict[str, dict[str, list[str]]] = {}
    for code in sorted(languages):
        for grouping in ("resources", "script", "family"):
            name = getattr(language(code), grouping)
            groupings.setdefault(grouping, {}).setdefault(name, []).append(code)
    return groupings


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
    by_trial = [frozenset(seen)] if seen else [_seen_by(snapshot, view) for view in snapshot.trials]
    sets = list(filter(None, by_trial))
    if not sets:
        return {}
    always, ever = frozenset.intersection(*sets), frozenset.union(*sets)
    groups: dict[str, list[str]] = {}
    for code in sorted(languages):
        name = "seen" if code in always else "seen by some" if code in ever else "unseen"
        groups.setdefault(name, []).append(code)
    return {"seen": groups}


def all_groupings(
    snapshot: Snapshot, additional: Groupings | None = None, seen: Sequence[str] = ()
) -> Callable[[Sequence[str]], Groupings]:
    """Every grouping of the languages of a table.

    Args:
        additional: groups beside the known ones.
        seen: languages that count as seen, in place of those that trainings held.
    """
    return lambda languages: {
        **known_groupings(languages),
        **seen_grouping(snapshot, languages, seen),
        **(additional or {}),
    }


def _seen_by(snapshot: Snapshot, view: TrialView) -> frozenset[str]:
    """Languages other than the source that a trial was trained in, few shots left out."""
    _, source = target_of(snapshot.sweep, view.assignment)
    seen: set[str] = set()
    for stage in view.stages:
        record = snapshot.records.get(stage.key)
        if record is None or stage.kind in ("few_shot", "evaluate"):
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


def groups_of(
    groupings: Groupings, languages: Sequence[str], source: str, left_out: Sequence[str] = ()
) -> tuple[Group, ...]:
    """The groups of a table: those of its languages that are in each, the source left out.

    Groups without a language of the table, and those that are all of its target languages (their
    mean stands in the table already), are left out.

    Args:
        left_out: languages that no mean over a group may rest on.
    """
    targets = [code for code in languages if code != source]
    result = []
    for grouping, groups in groupings.items():
        for name in sorted(groups):
            inside = set(groups[name]).difference(left_out)
            members = tuple(code for code in targets if code in inside)
            if members and len(members) < len(targets):
                result.append(Group(grouping, name, members))
    return tuple(result)


def without_members(groupings: Groupings, languages: Iterable[str]) -> Iterator[str]:
    """Complaints about groups that hold none of the languages that are scored, the source left
    out: no table has them."""
    scored = sorted(set(languages))
    for grouping, groups in groupings.items():
        for name, codes in groups.items():
            if not codes:
                yield f"{grouping}: {name}: has no languages, so no table has this group"
            elif scored and not set(codes).intersection(scored):
                yield (
                    f"{grouping}: {name}: no target language that is scored is one of "
                    f"{', '.join(codes)}, so no table has this group; {nearest(codes[0], scored)}"
                )


def drawn_groups(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The groups that a figure has room for: those of one grouping, as groupings overlap.

    A file's comes before classes of resources, families, scripts and what was seen; the first one
    is taken that has no more than ``MAX_DRAWN`` groups, and none where all have more.
    """
    by_grouping: dict[str, list[Group]] = {}
    for group in groups:
        by_grouping.setdefault(group.grouping, []).append(group)
    known = ("resources", "family", "script", "seen")
    order = sorted(by_grouping, key=lambda name: known.index(name) if name in known else -1)
    drawable = (by_grouping[name] for name in order if len(by_grouping[name]) <= MAX_DRAWN)
    return tuple(next(drawable, ()))


# -- what stands beside a score -----------------------------------------------------------

MIN_GROUP_ITEMS = 30
"""A language with fewer test items is in no mean over a group of languages."""


@dataclass(frozen=True)
class Evidence:
    """What is known of the scores of one metric of a task, by language.

    A mean over languages weighs a test set of forty sentences as one of ten thousand, so that this
    stands beside the scores. Scores of older stages know their number of examples alone.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    """Number of test items: examples, sentences of tags, queries; the least that a trial had."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """What is scored without looking at the text; unknown languages are absent."""
    cut: Mapping[str, float] = field(default_factory=dict)
    """Share of the examples that ``max_length`` takes a part of, the highest of the trials; only
    languages where it takes something."""

    @property
    def small(self) -> tuple[str, ...]:
        """Languages with fewer than ``TOO_FEW_ITEMS``."""
        return tuple(code for code, size in self.sizes.items() if size < TOO_FEW_ITEMS)

    @property
    def without_groups(self) -> tuple[str, ...]:
        """Languages that no group holds, because they have fewer than ``MIN_GROUP_ITEMS``."""
        return tuple(code for code, size in self.sizes.items() if size < MIN_GROUP_ITEMS)

    def mean_chance(self, languages: Sequence[str]) -> float | None:
        """What is scored by chance in a mean over languages; None where one is not known."""
        if not languages or any(code not in self.chance for code in languages):
            return None
        return sum(self.chance[code] for code in languages) / len(languages)

    def small_note(self) -> str:
        """Which languages of a mean have few items; empty where none has."""
        listed = ", ".join(f"{code} ({self.sizes[code]})" for code in self.small)
        return f"Fewer than {TOO_FEW_ITEMS} test items: {listed}." if listed else ""

    def cut_note(self) -> str:
        """What rows had no room for; empty where they had room for everything.

        >>> Evidence(cut={"hy": 0.048, "ru": 0.0003}).cut_note()
        'max_length cuts examples (of tags words, of questions all answers): hy 4.8 %, ru 0.03 %.'
        """
        listed = ", ".join(f"{code} {100 * share:.3g} %" for code, share in self.cut.items())
        what = "max_length cuts examples (of tags words, of questions all answers)"
        return f"{what}: {listed}." if listed else ""

    def groups_note(self) -> str:
        """Which languages are in no group's mean; empty where all may be."""
        listed = ", ".join(self.without_groups)
        few = f"fewer than {MIN_GROUP_ITEMS} test items"
        return f"No group holds {listed}: {few}." if listed else ""


class Constant(NamedTuple):
    """That a network says next to one thing to everything, in one language."""

    share: float
    """Share of the most frequent prediction, the highest of the seeds."""
    num_seeds: int
    """Whose network does so."""

    def __str__(self) -> str:
        seeds = f" (in {self.num_seeds} seeds)" if self.num_seeds > 1 else ""
        return f"{100 * self.share:.0f} % of the predictions are the same{seeds}"


def evidence_of(test: pd.DataFrame) -> Evidence:
    """Of test scores of one task and metric, as rows of the frame of scores."""
    items = test["num_items"].fillna(test["num_examples"]).dropna().astype(int)
    by_language = test[["chance", "cut"]].astype(float).groupby(test["language"])
    chance, cut = by_language["chance"].mean().dropna(), by_language["cut"].max()
    return Evidence(
        items.groupby(test["language"]).min().to_dict(), chance.to_dict(), cut[cut > 0].to_dict()
    )


# -- rows and tables ----------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """Mean over ``num_seeds`` seeds and their sample standard deviation (None of one seed)."""

    mean: float
    deviation: float | None
    num_seeds: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean over seeds; None of one seed or of equal values."""
        if not self.deviation:
            return None
        half = student_quantile(self.num_seeds) * self.deviation / math.sqrt(self.num_seeds)
        return self.mean - half, self.mean + half


def cell_of(values: Iterable[float]) -> Cell:
    """The cell of one number a seed."""
    numbers = [float(value) for value in values]
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Cell(statistics.fmean(numbers), deviation, len(numbers))


@dataclass(frozen=True)
class TrialScores:
    """The test scores of one complete trial, by language."""

    number: int
    seed: int
    scores: Mapping[str, float]
    trained: Trained = ()
    near_constant: Mapping[str, float] = field(default_factory=dict)
    """Language -> share of the most frequent prediction, where that is next to all of them."""


def trial_scores(test: pd.DataFrame, trained: Mapping[int, Trained]) -> dict[int, TrialScores]:
    """Test scores of one task and metric by the number of their trial, in order."""
    is_near_constant = test["is_near_constant"].fillna(value=False).astype(bool)
    columns = (*(test[name] for name in ("number", "seed", "language", "value", "top_share")),)
    seeds: dict[int, int] = {}
    scores: dict[int, dict[str, float]] = {}
    near_constant: dict[int, dict[str, float]] = {}
    for number, seed, code, value, share, is_constant in zip(
        *columns, is_near_constant, strict=True
    ):
        seeds.setdefault(number, seed)
        scores.setdefault(number, {})[code] = float(value)
        if is_constant:
            near_constant.setdefault(number, {})[code] = share
    return {
        number: TrialScores(
            number, seed, scores[number], trained.get(number, ()), near_constant.get(number, {})
        )
        for number, seed in sorted(seeds.items())
    }


def mean_of(trials: Sequence[TrialScores], languages: Sequence[str]) -> Cell | None:
    """Mean over languages of every seed, then over seeds; None unless every seed has them all."""
    if not trials or not languages:
        return None
    if any(language not in trial.scores for trial in trials for language in languages):
        return None
    return cell_of(statistics.fmean(trial.scores[code] for code in languages) for trial in trials)


def cells_of(trials: Sequence[TrialScores], languages: Iterable[str]) -> dict[str, Cell]:
    """Cells by language; one that was not scored in any seed has none."""
    values = {
        code: [trial.scores[code] for trial in trials if code in trial.scores] for code in languages
    }
    return {code: cell_of(scores) for code, scores in values.items() if scores}


@dataclass(frozen=True, kw_only=True)
class ScoredRow:
    """The scores of one configuration; a language that was not scored in any seed has no cell."""

    configuration: int
    trials: tuple[TrialScores, ...]
    cells: Mapping[str, Cell]
    supervision: str = ZERO_SHOT
    """Which labels it learned from (:mod:`xlt_ray.config.supervision`)."""

    @property
    def num_seeds(self) -> int:
        return len(self.trials)

    @property
    def near_constant(self) -> dict[str, Constant]:
        """Languages in which the network of a seed says next to one thing to everything."""
        languages = dict.fromkeys(code for trial in self.trials for code in trial.near_constant)
        shares = {
            code: [
                trial.near_constant[code] for trial in self.trials if code in trial.near_constant
            ]
            for code in languages
        }
        return {code: Constant(max(values), len(values)) for code, values in shares.items()}

    @property
    def shared(self) -> Trained:
        """The trained stages that several of its seeds go on from: spreads leave out their luck."""
        return shared_by(trial.trained for trial in self.trials)

    @cached_property
    def stage_keys(self) -> set[str]:
        """Keys of all stages that its seeds were trained in."""
        return {stage.key for trial in self.trials for stage in trial.trained}


@dataclass(frozen=True, kw_only=True)
class Row(ScoredRow):
    """One configuration of a table of languages."""

    parameters: Mapping[str, Any]
    states: Mapping[str, int]
    """How many of its trials are in which state."""
    objective: Cell | None
    mean: Cell | None
    mean_without_source: Cell | None
    groups: Mapping[str, Cell] = field(default_factory=dict)
    """Means by the title of a group; those that lack a language are not there."""
    gap: Cell | None = None
    """Transfer gap: the source language's score minus the mean of the others, of each seed."""
    facts: str = ""
    """The sets of facts that its scored trials were made with: ``1``, or ``1+2``."""
    rung: int | None = None
    """Which value of the parameter of ``search.fidelity`` it has, from 0; None without one."""
    violated: str = ""
    """Constraints that it does not keep, which are no reason to leave it out of a table."""


@dataclass(frozen=True)
class LanguageTable:
    """Test scores of one task; rows by objective, the best first, those without scores last."""

    task: str
    metric: str
    source_language: str
    languages: tuple[str, ...]
    """The source language first, then by code."""
    parameters: tuple[str, ...]
    seed_levels: tuple[int, ...]
    """Seeds that the sweep gives every configuration; in a race, those of all rungs."""
    rows: tuple[Row, ...]
    groups: tuple[Group, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    is_higher_better: bool = True

    @property
    def has_missing(self) -> bool:
        """Whether some row lacks a mean: a seed of it lacks a language, or the table the source or
        any other."""
        return any(row.mean is None or row.mean_without_source is None for row in self.rows)

    @property
    def spread_note(self) -> str:
        """What has to stand where its deviations and intervals are; empty where seeds share no
        training."""
        return spread_note([trial.trained for trial in row.trials] for row in self.rows)

    @cached_property
    def facts_note(self) -> str:
        """Which rows were made with which facts; empty where all were with the same."""
        members: dict[str, list[str]] = {}
        for row in sorted(self.rows, key=lambda row: row.configuration):
            if row.trials:
                members.setdefault(row.facts, []).append(str(row.configuration))
        if len(members) < 2 and not any("+" in facts for facts in members):
            return ""
        listed = "; ".join(
            f"{facts}: {', '.join(numbers[:MAX_LISTED])}"
            + (f" and {len(numbers) - MAX_LISTED} more" if len(numbers) > MAX_LISTED else "")
            for facts, numbers in sorted(members.items())
        )
        return (
            "MIXED FACTS: data, weights or code have changed between configurations, which are "
            f"ranked together all the same (facts: configurations): {listed}."
        )

    @property
    def supervision_note(self) -> str:
        """Which rows are not zero-shot; empty where all are."""
        return note((row.configuration, row.supervision) for row in self.rows)

    @property
    def reference(self) -> Row | None:
        """The row that gaps are compared with: the first one that has a gap."""
        return next((row for row in self.rows if row.gap is not None), None)

    @property
    def sign(self) -> float:
        """Times a score: higher is better."""
        return 1.0 if self.is_higher_better else -1.0

    @property
    def targets(self) -> tuple[str, ...]:
        """The languages without the source."""
        return tuple(code for code in self.languages if code != self.source_language)

    def worst(self, row: Row) -> Cell | None:
        """The worst target language of a row, which may be of averaged weights and lack languages.

        None unless every seed of the row has all of its languages.
        """
        if row.mean_without_source is None:
            return None
        cells = [row.cells[code] for code in self.targets if code in row.cells]
        return min(cells, key=lambda cell: self.sign * cell.mean, default=None)

    def is_gap_of_source(self, row: Row) -> bool:
        """Whether the gap is smaller than the reference's only because the source language is
        worse: the mean of the others is no better."""
        first = self.reference
        if first is None or not (
            row.gap and first.gap and row.mean_without_source and first.mean_without_source
        ):
            return False
        gain = row.mean_without_source.mean - first.mean_without_source.mean
        return self.sign * (row.gap.mean - first.gap.mean) < 0 and self.sign * gain <= 0

    def file_name(self, subject: str) -> str:
        """The name of the files of a table or figure about this subject."""
        return f"{self.task}-{self.source_language}-{subject}"

    @property
    def stem(self) -> str:
        """The name of the table's own files."""
        return self.file_name("languages")


def tables_of(
    snapshot: Snapshot, groupings: Callable[[Sequence[str]], Groupings] = lambda _: {}
) -> list[LanguageTable]:
    """:func:`language_tables` of a snapshot."""
    trials, scores = trials_frame(snapshot), scores_frame(snapshot)
    trained = trained_stages(snapshot.trials)
    return language_tables(trials, scores, snapshot.sweep, groupings, trained)


def language_tables(
    trials: pd.DataFrame,
    scores: pd.DataFrame,
    sweep: Mapping[str, Any],
    groupings: Callable[[Sequence[str]], Groupings] = lambda _: {},
    trained: Mapping[int, Trained] = MappingProxyType({}),
) -> list[LanguageTable]:
    """One table for each task and source language that complete trials were scored in.

    Args:
        groupings: groups of a table's languages that rows give means of.
        trained: trained stages of every trial by its number
            (:func:`xlt_ray.report.stats.trained_stages`).
    """
    metric = str(sweep["objective"]["metric"])
    test = scores[(scores["split"] == "test") & (scores["metric"] == metric)]
    return [
        _table(str(task), str(source), trials, part, sweep, groupings, trained)
        for (task, source), part in test.groupby(["task", "source_language"], sort=True)
    ]


def _table(
    task: str,
    source: str,
    trials: pd.DataFrame,
    test: pd.DataFrame,
    sweep: Mapping[str, Any],
    groupings: Callable[[Sequence[str]], Groupings],
    trained: Mapping[int, Trained],
) -> LanguageTable:
    languages = tuple(sorted(test["language"].unique(), key=lambda code: (code != source, code)))
    evidence = evidence_of(test)
    table = LanguageTable(
        task=task,
        metric=str(sweep["objective"]["metric"]),
        source_language=source,
        languages=languages,
        parameters=tuple(path for path in trials.columns if path not in TRIAL_COLUMNS),
        seed_levels=seed_levels(sweep["search"]["seeds"]),
        rows=(),
        groups=groups_of(groupings(languages), languages, source, evidence.without_groups),
        evidence=evidence,
        is_higher_better=sweep["objective"]["mode"] == "max",
    )
    scored = trial_scores(test, trained)
    by_configuration: dict[int, list[_Trial]] = {}
    for trial in trials.sort_values(["configuration", "number"]).to_dict("records"):
        by_configuration.setdefault(int(trial["configuration"]), []).append(trial)
    rows = [
        _row(configuration, part, scored, table)
        for configuration, part in by_configuration.items()
        if any(int(trial["number"]) in scored for trial in part)
        or _target(part[0], table.parameters, sweep) == (task, source)
    ]

    def rank(row: Row) -> tuple[bool, int, int, bool, float, int]:
        value = -table.sign * row.objective.mean if row.objective else 0.0
        level = level_of(row.num_seeds, table.seed_levels)
        is_unscored = row.objective is None
        return bool(row.violated), -(row.rung or 0), -level, is_unscored, value, row.configuration

    return replace(table, rows=tuple(sorted(rows, key=rank)))


_Trial = Mapping[Hashable, Any]
"""A row of the frame of trials."""


def _target(trial: _Trial, parameters: Sequence[str], sweep: Mapping[str, Any]) -> tuple[str, str]:
    """Task and source language of a trial, which may have no scores."""
    return target_of(sweep, {p: trial[p] for p in parameters if isinstance(trial[p], str)})


def _row(
    configuration: int,
    part: Sequence[_Trial],
    scored: Mapping[int, TrialScores],
    table: LanguageTable,
) -> Row:
    with_scores = [trial for trial in part if int(trial["number"]) in scored]
    trials = tuple(scored[int(trial["number"])] for trial in with_scores)
    first = (with_scores or part)[0]
    source, targets = table.source_language, table.targets
    means = {group.title: mean_of(trials, group.languages) for group in table.groups}
    mean, has_source = mean_of(trials, table.languages), source in table.languages
    gap = None
    if has_source and targets and mean is not None:
        gap = cell_of(
            trial.scores[source] - statistics.fmean(trial.scores[code] for code in targets)
            for trial in trials
        )
    return Row(
        configuration=configuration,
        parameters={path: first[path] for path in table.parameters},
        states=dict(sorted(Counter(str(trial["state"]) for trial in part).items())),
        trials=trials,
        objective=cell_of(trial["objective"] for trial in with_scores) if trials else None,
        cells=cells_of(trials, table.languages),
        mean=mean,
        mean_without_source=mean_of(trials, targets) if has_source else None,
        groups={title: cell for title, cell in means.items() if cell is not None},
        gap=gap,
        facts=facts_label(int(trial.get("facts", 0)) for trial in with_scores),
        rung=first.get("rung"),
        violated=str(first.get("violated", "")),
        supervision=str(first.get("supervision", ZERO_SHOT)) if trials else ZERO_SHOT,
    )
