"""What the runs of a sweep show: tags, parameters, metrics, data sets, texts, a view. Pure.

A run carries at most 50 metrics, because MLflow's pages slow down beyond that; the scores of all
tasks, languages, splits and metrics are in its table ``scores.json``.
"""

from __future__ import annotations

import getpass
import itertools
import json
import math
import os
import socket
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xlt_ray.config.search_space import Value
from xlt_ray.config.supervision import ZERO_SHOT
from xlt_ray.config.sweep import reads_target_labels, selection_rule
from xlt_ray.config.yaml import DISTRIBUTIONS
from xlt_ray.ledger import (
    STANDINGS,
    Ledger,
    Standing,
    TrialView,
    Winner,
    front_of,
    mixed_facts,
    standings,
)
from xlt_ray.redact import redacted
from xlt_ray.store.canonical import digest
from xlt_ray.store.record import Score, values_by_language
from xlt_ray.store.stage import Stage, short
from xlt_ray.tracking.client import Input, TrackedRun
from xlt_ray.versions import commit_of, library_versions

Metrics = dict[str, float]
Going = Literal["RUNNING", "KILLED", "FINISHED"]
"""What the sweep does: it is at work, stopped to go on later, or at its end."""

STATUS = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "queued": "KILLED",
}
"""Of a trial's run; the tag ``xlt.state`` tells complete from pruned."""
FINISHED = ("complete", "pruned", "failed")
MAX_LANGUAGES = 30
"""Languages with a metric of their own and further means, of at most 50 metrics a run."""
MAX_FURTHER = 8
"""Means of language pairs and of further tasks, among those."""
MAX_VALUE = 5000
"""Characters of a tag or parameter; MLflow refuses longer ones at 6000 and 8000."""
MAX_PARAMETERS = 100
"""MLflow refuses more of them in one request."""
MAX_AXES = 12
"""Parameters that are columns and axes, of a tag of 5000 characters at most."""
MAX_DATASET_NAME = 200

CONTEXTS = {
    "align": "alignment",
    "trunk": "intermediate",
    "intermediate": "intermediate",
    "target": "training",
    "few_shot": "few-shot",
    "evaluate": "evaluation",
}
"""What the data of a stage is called in MLflow, by kind of stage."""
ORDER = ("training", "few-shot", "evaluation", "intermediate", "alignment")
"""The column Dataset shows the first data sets of a run, and how many more there are."""
FURTHER = {"also": "test", "also_dev": "dev"}
"""Splits of the further tasks of an evaluation, by what its fingerprints stand under."""
NAMES = {"hybrid": "cross-lingual batches", "parallel": "parallel text"}

SUMMED = ("seconds", "examples_trained", "gpu_hours")
"""Metrics of trials that are costs, and added up over all trials of a configuration."""
SPREAD = ("objective", "/mean", "/mean_without_source")
"""Endings of metrics whose standard deviation over seeds is shown, as ``sd/<metric>``."""


@dataclass(frozen=True)
class LedgerSnapshot:
    """A ledger at one moment; the ledger goes on, this does not."""

    sweep: Mapping[str, Any]
    trials: tuple[TrialView, ...]
    """By number."""
    best: Winner | None
    """What the sweep selects; None before any trial is complete."""

    @classmethod
    def of(cls, ledger: Ledger) -> LedgerSnapshot:
        """The ledger as it is now."""
        return cls(ledger.sweep, tuple(ledger.trials()), ledger.best())

    @property
    def is_finished(self) -> bool:
        return all(trial.is_finished for trial in self.trials)


@dataclass(frozen=True)
class TrialSnapshot:
    """A trial at one moment, with what its run in MLflow shows besides its stages' curves."""

    view: TrialView
    standing: Standing
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved trial, kept as ``config.json``; empty where it is not at hand."""
    path: Sequence[Stage] = ()
    """Its stages, whose data are named as the run's inputs; empty where they are not at hand.
    Without them the curves of stages that it began and did not finish are not known."""
    is_begun_here: bool = False
    """Whether this process has it at work, and is named as the origin of its run."""


# -- the run of a trial ---------------------------------------------------------------------


def trial_tags(view: TrialView, standing: Standing) -> dict[str, str]:
    """Tags that follow from the ledger; empty ones stand for tags that are to be taken away."""
    failed = view.state == "failed"
    stages = {stage_name(stage.kind, stage.label): stage for stage in view.stages}
    notes = [
        f"{stage.label} `{short(stage.key)}` "
        + ("reused" if stage.reused else f"{stage.seconds:.0f} s")
        for stage in view.stages
    ]
    if failed:
        notes.insert(0, f"**{view.cause}**: {view.message}")
    return {
        "xlt.trial": str(view.number),
        "xlt.state": standing,
        "xlt.configuration": str(view.configuration),
        "xlt.repeat": str(view.repeat),
        "xlt.rung": "" if view.rung is None else str(view.rung),
        "xlt.seed": str(view.seed),
        "xlt.attempt": str(view.attempts),
        "xlt.facts": str(view.facts) if view.facts else "",
        "xlt.by_hand": view.by_hand,
        "xlt.retry_of": "" if view.retry_of is None else str(view.retry_of),
        "xlt.cause": (view.cause or "") if failed else "",
        "xlt.violated": ", ".join(view.violated),
        "xlt.message": _tag(view.message) if failed else "",
        # Until all the rest is there.
        "xlt.told": "",
        "xlt.reused": " ".join(dict.fromkeys(stage.kind for stage in view.stages if stage.reused)),
        **{f"xlt.stage.{name}": stage.key for name, stage in stages.items()},
        **{
            f"xlt.made_by.{name}": stage.made_by if stage.reused else ""
            for name, stage in stages.items()
        },
        "mlflow.note.content": _tag("  \n".join(notes)),
    }


def synced(view: TrialView) -> str:
    """The tag ``xlt.told`` of a run that shows all that is known of this finished trial."""
    return f"trial {view.number} {view.state}"


def stage_name(kind: str, label: str) -> str:
    """What tags call a stage of a path: its kind, and a trunk, which may not be the only one, by
    its examples, too.

    >>> stage_name("target", "target nli 1000"), stage_name("trunk", "trunk nli 2400")
    ('target', 'trunk.2400')
    """
    return f"{kind}.{label.split()[-1]}" if kind == "trunk" else kind


def origin() -> dict[str, str]:
    """Tags of a run that this process makes; MLflow's columns User, Source and Version show them.

    The commit is there where xlt-ray runs from a git checkout of its own.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        user = str(os.getuid())
    tags = {
        "mlflow.user": user,
        "mlflow.source.name": "xlt run",
        "mlflow.source.type": "LOCAL",
        "xlt.host": socket.gethostname(),
        "xlt.versions": " ".join(f"{name}={number}" for name, number in library_versions().items()),
    }
    if commit := commit_of():
        tags["mlflow.source.git.commit"] = commit.removesuffix("+")
        tags["mlflow.source.git.dirty"] = str(commit.endswith("+")).lower()
    return tags


def spelled(value: Value) -> str:
    """A value as a sweep file has it.

    >>> [spelled(value) for value in (None, True, 1e-05, "mnli")]
    ['null', 'true', '1e-05', 'mnli']
    """
    return _tag(value if isinstance(value, str) else json.dumps(value))


def parameters_of(assignment: Mapping[str, Value], space: Mapping[str, Any]) -> dict[str, str]:
    """What a configuration was assigned, and what the space of its resolved sweep fixes as far as
    there is room; by dotted path, without secrets.

    >>> space = {"model": "mbert", "target": {"epochs": 3, "size": {"int": [1, 9]}}}
    >>> parameters_of({"target.size": 4}, space)
    {'target.size': '4', 'model': 'mbert', 'target.epochs': '3'}
    """
    assigned = {path: spelled(value) for path, value in assignment.items()}
    room = max(MAX_PARAMETERS - len(assigned), 0)
    return assigned | dict(itertools.islice(_fixed(redacted(space)), room))


def _fixed(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(node, Mapping):
        yield path, spelled(node)
    elif not any(mark in node for mark in DISTRIBUTIONS):
        for key, value in node.items():
            yield from _fixed(value, f"{path}.{key}" if path else str(key))


def point_names(
    kind: str, metrics: Mapping[str, float], system: Mapping[str, float] | None = None
) -> Metrics:
    """What one evaluation of a training stage is called in MLflow; the target's is the headline.

    >>> point_names("target", {"loss": 1.0, "f1": 0.5})
    {'train/loss': 1.0, 'dev/f1': 0.5}
    >>> point_names("align", {"loss": 1.0}, {"memory_gib": 2.0})
    {'align/train/loss': 1.0, 'system/align/memory_gib': 2.0}
    """
    prefix = "" if kind == "target" else f"{kind}/"
    named = {
        f"{prefix}{'train' if name == 'loss' else 'dev'}/{name}": value
        for name, value in metrics.items()
    }
    return named | {f"system/{prefix}{name}": value for name, value in (system or {}).items()}


def source_language(config: Mapping[str, Any], scores: Sequence[Score] = ()) -> str:
    """The language that a trial was trained in; empty where it is not known.

    Without a configuration it is the only language whose dev set was scored.
    """
    target = config.get("target")
    if isinstance(target, Mapping) and "source_language" in target:
        return str(target["source_language"])
    dev = {score.language for score in scores if score.split == "dev"}
    return dev.pop() if len(dev) == 1 else ""


def final_metrics(view: TrialView, scores: Sequence[Score], metric: str, source: str) -> Metrics:
    """The headline metrics of a finished trial, by name.

    ``test/<metric>/mean`` is the unweighted mean over the test languages of this trial,
    ``.../mean_without_source`` the same without the source language. Both are of the target task
    in one language at a time: what is evaluated besides has means of its own,
    ``test/<task>/<metric>/mean``. ``test/<metric>/chance_mean`` is the mean that is scored without
    looking at the text. Numbers that are not finite are left out.
    """
    metrics: Metrics = {}
    if view.objective is not None:
        metrics["objective"] = view.objective
    elif view.state == "pruned" and view.curve:
        metrics["objective_when_stopped"] = view.curve[-1][1]
    if view.stages:
        metrics["seconds"] = math.fsum(stage.seconds for stage in view.stages)
        metrics["examples_trained"] = sum(stage.examples for stage in view.stages)
    if view.occupied.gpu_seconds:
        metrics["gpu_hours"] = view.occupied.gpu_seconds / 3600
    test = values_by_language(scores, "test", metric)
    further = _further_means(scores)
    if test:
        metrics[f"test/{metric}/mean"] = statistics.fmean(test.values())
        chance = [
            score.chance
            for score in scores
            if (score.role, score.split, score.metric) == ("target", "test", metric)
            and score.chance is not None
        ]
        if len(chance) == len(test):
            metrics[f"test/{metric}/chance_mean"] = statistics.fmean(chance)
        others = [value for language, value in test.items() if language != source]
        if source in test and others:
            metrics[f"test/{metric}/mean_without_source"] = statistics.fmean(others)
        first = sorted(test, key=lambda language: (language != source, language))
        for language in first[: MAX_LANGUAGES - len(further)]:
            metrics[f"test/{metric}/{language}"] = test[language]
    metrics |= further
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _further_means(scores: Sequence[Score]) -> Metrics:
    """Means over what each further task, or the target's pairs, were scored in, by name.

    After few shots there are two languages that no mean may mix: each has its own name.
    """
    values: dict[str, list[float]] = {}
    for score in scores:
        if score.role != "target":
            of = score.language if score.role == "few_shot" else "mean"
            values.setdefault(f"test/{score.task}/{score.metric}/{of}", []).append(score.value)
    return {name: statistics.fmean(values[name]) for name in sorted(values)[:MAX_FURTHER]}


def score_table(scores: Sequence[Score]) -> str:
    """JSON of one row per task, language, split and metric, as MLflow's tables are stored."""
    columns = ["task", "language", "split", "metric", "value", "num_examples"]
    columns += ["num_items", "chance", "cut", "top_share", "is_near_constant"]
    rows = [[getattr(score, column) for column in columns] for score in scores]
    return json.dumps({"columns": columns, "data": sorted(rows, key=lambda row: row[:4])})


def score_tags(scores: Sequence[Score], metric: str) -> dict[str, str]:
    """Languages of the test scores, and those in which the network says next to one thing to
    everything."""
    test = [score for score in scores if (score.role, score.split) == ("target", "test")]
    constant = [score for score in test if score.metric == metric and score.is_near_constant]
    return {
        "xlt.languages": " ".join(sorted({score.language for score in test})),
        "xlt.near_constant": " ".join(sorted(score.language for score in constant)),
    }


# -- the data of a run ----------------------------------------------------------------------


def inputs_of(path: Sequence[Stage]) -> tuple[Input, ...]:
    """The data sets of a path, each once, with all that they are read for.

    All languages of a kind of text in a task and split are one data set: its digest covers the
    fingerprints of all, which stand in the profile.

    >>> stage = Stage("target", {"task": {"name": "nli"}}, {"train": "ab" * 32}, 0, None, "target")
    >>> [(data.name, data.digest, data.context) for data in inputs_of([stage])]
    [('nli train', 'ababababab', 'training')]
    """
    contexts: dict[tuple[str, str], dict[str, None]] = {}
    profiles: dict[tuple[str, str], str] = {}
    for stage in path:
        if stage.kind not in CONTEXTS:
            continue
        for name, parts in _data_of(stage):
            fingerprint = next(iter(parts.values())) if len(parts) == 1 else digest(dict(parts))
            key = name[:MAX_DATASET_NAME], short(fingerprint)
            contexts.setdefault(key, {})[CONTEXTS[stage.kind]] = None
            profile = {"parts": len(parts), "fingerprints": parts}
            profiles[key] = json.dumps(profile, ensure_ascii=False)
    keys = sorted(contexts, key=lambda key: min(map(ORDER.index, contexts[key])))
    return tuple(Input(*key, ", ".join(contexts[key]), profiles[key]) for key in keys)


def source_of(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Where the data of a resolved sweep comes from; ``type`` is MLflow's word for it."""
    data = sweep["space"].get("data") or {}
    kind = str(data.get("source", "unknown"))
    settings = {name: str(redacted(str(value))) for name, value in data.items()}
    return {**settings, "type": "local" if kind == "files" else kind}


def _data_of(stage: Stage) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and fingerprints by language of everything that a stage reads."""
    task = stage.settings.get("task")
    name = str(task["name"]) if isinstance(task, Mapping) else ""
    for part, value in stage.data.items():
        if part in FURTHER:
            for further, languages in value.items():
                yield f"{further} {FURTHER[part]}", _flat(languages)
        elif part in ("train", "dev", "test", "hybrid"):
            yield f"{name} {NAMES.get(part, part)}".strip(), _flat(value)
        else:
            yield NAMES.get(part, part), _flat(value)


def _flat(value: Any, above: str = "") -> dict[str, str]:
    """The leaves of a fingerprint tree by their path; one that stands alone is called *all*."""
    if not isinstance(value, Mapping):
        return {above or "all": str(value)}
    leaves: dict[str, str] = {}
    for key, inner in sorted(value.items()):
        leaves |= _flat(inner, f"{above}/{key}" if above else str(key))
    return leaves


# -- the run of a configuration -------------------------------------------------------------


def members_of(runs: Iterable[TrackedRun]) -> list[TrackedRun]:
    """The trials of a configuration by number, of their runs; those that were never described are
    left out."""
    described = (run for run in runs if "xlt.repeat" in run.tags)
    return sorted(described, key=lambda run: int(run.tags["xlt.trial"]))


def configuration_status(members: Sequence[TrackedRun], seeds: int, going: Going) -> str:
    """Status of a configuration's run; FAILED as soon as a seed failed and none is left to run."""
    states = [member.tags["xlt.state"] for member in members]
    is_finished = set(states) <= {*FINISHED}
    is_whole = len({member.tags["xlt.repeat"] for member in members}) >= seeds
    if not (is_whole and is_finished) and going != "FINISHED":
        return going
    if not is_finished:
        return "KILLED"
    return "FAILED" if "failed" in states else "FINISHED"


def configuration_metrics(members: Sequence[TrackedRun]) -> Metrics:
    """Means over the seeds that are complete, how many these are, and what all trials cost.

    A metric that one of them lacks has no mean. ``sd/...`` is the sample standard deviation, of
    two seeds or more.
    """
    states = [member.tags["xlt.state"] for member in members]
    complete = [member.metrics for member in members if member.tags["xlt.state"] == "complete"]
    metrics: Metrics = {}
    spread: Metrics = {}
    # The first metric of a run is what MLflow's page of compared runs begins with: objective.
    for name in sorted(set.intersection(*map(set, complete)) if complete else ()):
        if name == "objective" or name.startswith("test/"):
            values = [scores[name] for scores in complete]
            metrics[name] = statistics.fmean(values)
            if len(values) > 1 and name.endswith(SPREAD):
                spread[f"sd/{name}"] = statistics.stdev(values)
    metrics |= spread
    for name in SUMMED:
        spent = [member.metrics[name] for member in members if name in member.metrics]
        if spent:
            metrics[name] = math.fsum(spent)
    return metrics | {f"seeds/{state}": float(states.count(state)) for state in FINISHED}


def configuration_tags(members: Sequence[TrackedRun]) -> dict[str, str]:
    """Tags of a configuration; empty ones stand for tags that are to be taken away."""
    all_tags = [member.tags for member in members]
    failed = [tags.get("xlt.cause", "") for tags in all_tags if tags["xlt.state"] == "failed"]
    note = ["| trial | seed | state | objective |", "|---|---|---|---|"]
    note += [
        f"| {member.tags['xlt.trial']} | {member.tags['xlt.seed']} | {member.tags['xlt.state']} "
        f"| {_rounded(member.metrics.get('objective'))} |"
        for member in members
    ]
    # A stage that the seeds share is the configuration's; one that they do not is the trials'.
    names = dict.fromkeys(
        name for tags in all_tags for name in tags if name.startswith("xlt.stage.")
    )
    keys = {name: {tags.get(name, "") for tags in all_tags} for name in names}
    shared = [
        name.removeprefix("xlt.stage.")
        for name in names
        if len(keys[name]) == 1 and len(members) > 1 and name != "xlt.stage.evaluate"
    ]
    if shared:
        what = f"Its seeds share one training of {', '.join(shared)}"
        note += ["", f"{what}: sd/... is of what was trained after it, and leaves out its luck."]
    return {
        "xlt.seeds": " ".join(t["xlt.seed"] for t in all_tags if t["xlt.state"] == "complete"),
        "xlt.trials": " ".join(tags["xlt.trial"] for tags in all_tags),
        "xlt.cause": " ".join(dict.fromkeys(filter(None, failed))),
        "xlt.facts": " ".join(sorted({tags.get("xlt.facts", "") for tags in all_tags} - {""})),
        **{name: found.pop() if len(found) == 1 else "" for name, found in keys.items()},
        "mlflow.note.content": "\n".join(note),
    }


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


# -- the run of a sweep, and the view of its runs -------------------------------------------


def sweep_metrics(trials: Sequence[TrialView], best: Winner | None) -> Metrics:
    """The metrics of a sweep's run: trials by how they ended, what is best, what they cost."""
    metrics = {
        f"trials/{state}": float(sum(trial.state == state for trial in trials))
        for state in FINISHED
    }
    if best is not None:
        metrics["best_objective"] = best.objective
    if gpu_seconds := math.fsum(trial.occupied.gpu_seconds for trial in trials):
        metrics["gpu_hours"] = gpu_seconds / 3600
    return metrics


def sweep_note(ledger: LedgerSnapshot, best_run: TrackedRun | None) -> str:
    """Markdown that stands on the sweep's run as its driver leaves it: how far it is, how it
    selects, what is best.

    ``best_run`` is that of the best configuration, with means over its seeds.
    """
    name, objective = ledger.sweep["name"], ledger.sweep["objective"]
    states = [*standings(ledger.trials).values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STANDINGS if state in states)
    lines = [f"Sweep **{name}**: {len(states)} trials" + (f" ({counts})" if counts else "") + "."]
    is_oracle = reads_target_labels(ledger.sweep)
    trials_are = "**Oracle selection**: trials are" if is_oracle else "Trials are"
    lines += ["", f"{trials_are} {selection_rule(ledger.sweep)}."]
    if mixed := mixed_facts(ledger.trials):
        lines += ["", f"**Mixed facts**: {mixed}."]
    if front := front_of(ledger.trials, ledger.sweep):
        lines += ["", "Pareto front:", "", *(f"- {point}" for point in front)]
    if ledger.best is not None:
        tags, means = ({}, {}) if best_run is None else (best_run.tags, best_run.metrics)
        # Which labels it learned from.
        supervision = tags.get("xlt.supervision")
        if supervision and supervision != ZERO_SHOT:
            lines += ["", f"The best configuration is **{supervision}**."]
        lines += ["", *_best_lines(name, str(objective["metric"]), ledger.best, means)]
    return _tag("\n".join(lines))


def _best_lines(name: str, metric: str, best: Winner, means: Metrics) -> list[str]:
    seeds = f"mean over {best.num_seeds} seeds" if best.num_seeds > 1 else "one seed"
    titles = {
        "objective": "objective",
        f"test/{metric}/mean": f"test {metric}, all languages",
        f"test/{metric}/mean_without_source": f"test {metric}, without the source",
    }
    lines = [f"Best: **configuration {best.configuration}**, {seeds}.", ""]
    lines += ["| score | value | sd |", "|---|---|---|"]
    lines += [
        f"| {title} | {means[key]:.4f} | {_rounded(means.get(f'sd/{key}'))} |"
        for key, title in titles.items()
        if key in means
    ]
    parameters = [f"| {path} | {spelled(value)} |" for path, value in best.trial.assignment.items()]
    if parameters:
        lines += ["", "| parameter | value |", "|---|---|", *parameters]
    lines += ["", "```", f"xlt report {name} --log"]
    if best.runner_up is not None:
        lines += [f"xlt compare {name}/{best.runner_up} {name}/{best.configuration}"]
        lines += [f"xlt confirm {name} --seeds 6"]
    return [*lines, f"xlt export {name} DIR --trial {best.trial.number} --register MODEL", "```"]


def view_of(metric: str, mode: str, parameters: Sequence[str], *, has_seeds: bool) -> str:
    """JSON of the view that ``xlt ui NAME`` opens: columns, order and charts of the runs page.

    It has one row a configuration; a trial where each has one seed only, and no run of its own.
    MLflow keeps it as a tag of the experiment. What it leaves out has MLflow's default.
    """
    metrics = ["objective", f"test/{metric}/mean", f"test/{metric}/mean_without_source"]
    axes = list(parameters[:MAX_AXES])
    first = ["objective", *(["sd/objective", "seeds/complete"] if has_seeds else [])]
    columns = [
        *(f"metrics.`{name}`" for name in first),
        *(f"params.`{name}`" for name in axes),
        *(f"metrics.`{name}`" for name in metrics if name not in first),
    ]
    section = {
        "uuid": "xlt-parallel",
        "name": "Parameters and scores",
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
        # One chart a row: seven axes and more do not fit into a third of it.
        "columns": 1,
        "cardHeight": 420,
    }
    chart = {
        "uuid": "xlt-parallel-chart",
        "type": "PARALLEL",
        "metricSectionId": "xlt-parallel",
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
        "selectedParams": axes,
        "selectedMetrics": metrics,
        "showAllRuns": False,
    }
    view = {
        "searchFilter": f"tags.`xlt.kind` = '{'configuration' if has_seeds else 'trial'}'",
        "orderByKey": "metrics.`objective`",
        "orderByAsc": mode == "min",
        "selectedColumns": columns,
        # Behind these MLflow puts the duration, before them the name and the age of a run.
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [section],
        "compareRunCharts": [chart],
    }
    return json.dumps(view, ensure_ascii=False)


def _tag(text: str) -> str:
    return str(redacted(text))[:MAX_VALUE]
