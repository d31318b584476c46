"""What MLflow is told of a sweep and of a trial: tags, parameters, metrics, texts. Pure.

A run carries at most 50 metrics, because MLflow's pages slow down beyond that; the scores of all
tasks, languages, splits and metrics are in its table ``scores.json``.

Where a run comes from: user, host, commit, versions; in MLflow's tags where it has them.

The view of a sweep that ``xlt ui NAME`` opens: columns, order and charts of the runs page.

MLflow keeps such views as tags of the experiment (its button *Share*) and opens the one that
``viewStateShareKey`` names; whoever opens it may change it, for himself alone. What a view leaves
out has MLflow's default.

The data that the stages of a path read, as MLflow's column Dataset names it. Pure.

One entry for each kind of text in each task and split, whatever the number of its languages: its
digest covers the fingerprints of all of them, which stand in the profile.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt_ray.config.search_space import Value
from xlt_ray.config.supervision import ZERO_SHOT
from xlt_ray.config.sweep import selection_rule
from xlt_ray.ledger import STANDINGS, Standing, TrialView, Winner, mixed_facts, standings
from xlt_ray.redact import redacted
from xlt_ray.store.canonical import digest
from xlt_ray.store.record import Score, values_by_language
from xlt_ray.store.stage import Stage, short
from xlt_ray.versions import commit_of, library_versions


def origin() -> dict[str, str]:
    """Tags of a run that this process makes; MLflow's columns User, Source and Version show them.

    The commit is there where xlt-ray runs from a git checkout of its own.
    """
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": "xlt run",
        "mlflow.source.type": "LOCAL",
        "xlt.host": socket.gethostname(),
        "xlt.versions": " ".join(f"{name}={found}" for name, found in library_versions().items()),
        **_commit(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return str(os.getuid())


def _commit() -> dict[str, str]:
    found = commit_of()
    if not found:
        return {}
    return {
        "mlflow.source.git.commit": found.removesuffix("+"),
        "mlflow.source.git.dirty": str(found.endswith("+")).lower(),
    }


KEY = "xlt"
"""By which the page is told of the view."""
VIEW_TAG = "mlflow.sharedViewState."
"""Of the experiment; the view's key follows."""
MAX_AXES = 12
"""Parameters that are columns and axes, of a tag of 5000 characters at most."""


def headline(metric: str) -> list[str]:
    """The metrics that configurations are compared by, the deciding one first."""
    return ["objective", f"test/{metric}/mean", f"test/{metric}/mean_without_source"]


def view_of(metric: str, mode: str, parameters: Sequence[str], *, has_seeds: bool) -> str:
    """JSON of a view with one row a configuration (a trial where each has one seed only).

    Args:
        parameters: dotted paths of what is searched over.
        has_seeds: whether configurations have runs of their own.
    """
    metrics, axes = headline(metric), list(parameters[:MAX_AXES])
    spread = ["seeds/complete", "sd/objective"] if has_seeds else []
    columns = [
        *(f"metrics.`{name}`" for name in [*metrics, *spread]),
        *(f"params.`{name}`" for name in axes),
        "attributes.`Dataset`",
    ]
    view: dict[str, Any] = {
        "searchFilter": f"tags.`xlt.kind` = '{'configuration' if has_seeds else 'trial'}'",
        "orderByKey": "metrics.`objective`",
        "orderByAsc": mode == "min",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [_section("xlt-parallel", "Parameters and scores")],
        "compareRunCharts": [
            {
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
        ],
    }
    return json.dumps(view, ensure_ascii=False)


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
        # One chart a row: seven axes and more do not fit into a third of it.
        "columns": 1,
        "cardHeight": 420,
    }


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
"""The column shows the first data sets of a run, and how many more there are."""
FURTHER = {"also": "test", "also_dev": "dev"}
"""Splits of the further tasks of an evaluation, by what its fingerprints stand under."""
NAMES = {"hybrid": "cross-lingual batches", "parallel": "parallel text"}
MAX_DATASET_NAME = 200


@dataclass(frozen=True)
class Input:
    """One data set of a run; ``digest`` is ten digits, as keys are printed."""

    name: str
    digest: str
    context: str
    profile: str
    """JSON: number of languages, or of parts, and the fingerprint of each."""


def inputs_of(path: Sequence[Stage]) -> tuple[Input, ...]:
    """The data sets of a path, each once, with all that they are read for.

    >>> stage = Stage("target", {"task": {"name": "nli"}}, {"train": "ab" * 32}, 0, None, "target")
    >>> [(one.name, one.digest, one.context) for one in inputs_of([stage])]
    [('nli train', 'ababababab', 'training')]
    """
    found: dict[tuple[str, str], Input] = {}
    for stage in path:
        context = CONTEXTS.get(stage.kind)
        if context is None:
            continue
        for name, parts in _data_of(stage):
            fingerprint = next(iter(parts.values())) if len(parts) == 1 else digest(dict(parts))
            key = name[:MAX_DATASET_NAME], short(fingerprint)
            before = found[key].context.split(", ") if key in found else []
            contexts = ", ".join(dict.fromkeys([*before, context]))
            profile = json.dumps({"parts": len(parts), "fingerprints": parts}, ensure_ascii=False)
            found[key] = Input(*key, contexts, profile)

    def place(one: Input) -> int:
        return min(ORDER.index(context) for context in one.context.split(", "))

    return tuple(sorted(found.values(), key=place))


def source_of(sweep: Mapping[str, Any]) -> dict[str, str]:
    """Where the data of a resolved sweep comes from; ``type`` is MLflow's word for it."""
    data = sweep["space"].get("data") or {}
    kind = str(data.get("source", "unknown"))
    told = {name: str(redacted(str(value))) for name, value in data.items()}
    return {**told, "type": "local" if kind == "files" else kind}


def _data_of(stage: Stage) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and fingerprints by language of everything that a stage reads."""
    task = stage.settings.get("task")
    name = str(task["name"]) if isinstance(task, Mapping) else ""
    for part, value in stage.data.items():
        if part in FURTHER:
            for other, languages in value.items():
                yield f"{other} {FURTHER[part]}", _flat(languages)
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


MAX_LANGUAGES = 30
"""Languages with a metric of their own and further means, of at most 50 metrics a run."""
MAX_FURTHER = 8
"""Means of language pairs and of further tasks, among those."""
MAX_NAME = 250
"""Characters of the name of a metric."""
MAX_VALUE = 5000
"""Characters of a tag or parameter; MLflow refuses longer ones at 6000 and 8000."""

STATUS = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "queued": "KILLED",
}

Metrics = dict[str, float]
_ILLEGAL = re.compile(r"[^\w.\-/ :]")


def spelled(value: Value) -> str:
    """A value as a sweep file has it.

    >>> [spelled(value) for value in (None, True, 1e-05, "mnli")]
    ['null', 'true', '1e-05', 'mnli']
    """
    text = value if isinstance(value, str) else json.dumps(value)
    return str(redacted(text))[:MAX_VALUE]


def legal_name(name: str) -> str:
    """A name of a tag, parameter or metric as MLflow takes it: it refuses most signs, what is no
    path of a file, and more than 250 characters.

    >>> legal_name("test/accuracy/sr@latin"), legal_name("dev/f1/zh-Hans"), legal_name("dev/..")
    ('test/accuracy/sr_latin', 'dev/f1/zh-Hans', 'dev/_')
    """
    parts = (_ILLEGAL.sub("_", part) for part in name.split("/"))
    legal = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    return legal[:MAX_NAME].rstrip("/")


def trial_name(view: TrialView) -> str:
    """Name of a trial's run; names sort as numbers do."""
    return f"trial {view.number:03d}"


def trial_tags(view: TrialView, standing: Standing) -> dict[str, str]:
    """Tags that follow from the ledger; empty ones stand for tags that are to be taken away."""
    failed = view.state == "failed"
    names = {stage_name(stage.kind, stage.label): stage for stage in view.stages}
    stages = {f"xlt.stage.{name}": one.key for name, one in names.items()}
    makers = {
        f"xlt.made_by.{name}": one.made_by if one.reused else "" for name, one in names.items()
    }
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
        "xlt.seed": str(view.seed),
        "xlt.attempt": str(view.attempts),
        "xlt.facts": str(view.facts) if view.facts else "",
        "xlt.retry_of": "" if view.retry_of is None else str(view.retry_of),
        "xlt.cause": (view.cause or "") if failed else "",
        "xlt.message": _tag(view.message) if failed else "",
        # Until all the rest is there.
        "xlt.told": "",
        "xlt.reused": " ".join(dict.fromkeys(stage.kind for stage in view.stages if stage.reused)),
        **stages,
        **makers,
        "mlflow.note.content": _tag("  \n".join(notes)),
    }


def stage_name(kind: str, label: str) -> str:
    """What tags call a stage of a path: its kind, and a trunk, which may not be the only one, by
    its examples, too.

    >>> stage_name("target", "target nli 1000"), stage_name("trunk", "trunk nli 2400")
    ('target', 'trunk.2400')
    """
    return f"{kind}.{label.split()[-1]}" if kind == "trunk" else kind


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


def told(view: TrialView) -> str:
    """What the tag ``xlt.told`` says of a run that shows all that is known of this trial."""
    return f"trial {view.number} {view.state}"


def source_language(config: Mapping[str, Any], scores: Sequence[Score] = ()) -> str:
    """The language that a trial was trained in; empty where nobody knows.

    Without a configuration it is the only language whose dev set was scored.
    """
    target = config.get("target")
    if isinstance(target, Mapping) and "source_language" in target:
        return str(target["source_language"])
    dev = {score.language for score in scores if score.split == "dev"}
    return dev.pop() if len(dev) == 1 else ""


def final_metrics(
    view: TrialView,
    scores: Sequence[Score],
    metric: str,
    source: str,
) -> Metrics:
    """The headline metrics of a finished trial, by name.

    ``test/<metric>/mean`` is the unweighted mean over the test languages of this trial,
    ``.../mean_without_source`` the same without the source language. Both are of the target task
    in one language at a time: what is evaluated besides has means of its own,
    ``test/<task>/<metric>/mean``. ``test/<metric>/chance_mean`` is the mean that is scored without
    looking at the text. Numbers that are not finite are left out.
    """
    found: Metrics = {}
    if view.objective is not None:
        found["objective"] = view.objective
    elif view.state == "pruned" and view.curve:
        found["objective_when_stopped"] = view.curve[-1][1]
    if view.stages:
        found["seconds"] = math.fsum(stage.seconds for stage in view.stages)
        found["examples_trained"] = sum(stage.examples for stage in view.stages)
    if view.occupied.gpu_seconds:
        found["gpu_hours"] = view.occupied.gpu_seconds / 3600
    test = values_by_language(scores, "test", metric)
    further = _further_means(scores)
    if test:
        found[f"test/{metric}/mean"] = _mean(list(test.values()))
        chance = [
            score.chance
            for score in scores
            if (score.role, score.split, score.metric) == ("target", "test", metric)
            and score.chance is not None
        ]
        if len(chance) == len(test):
            found[f"test/{metric}/chance_mean"] = _mean(chance)
        others = [value for language, value in test.items() if language != source]
        if source in test and others:
            found[f"test/{metric}/mean_without_source"] = _mean(others)
        first = sorted(test, key=lambda language: (language != source, language))
        found.update(
            {
                f"test/{metric}/{language}": test[language]
                for language in first[: MAX_LANGUAGES - len(further)]
            }
        )
    found.update(further)
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def sweep_metrics(trials: Sequence[TrialView], best: Winner | None) -> Metrics:
    """The metrics of a sweep's run: trials by how they ended, what is best, what they cost."""
    found = {
        f"trials/{state}": float(sum(trial.state == state for trial in trials))
        for state in ("complete", "pruned", "failed")
    }
    if best is not None:
        found["best_objective"] = best.objective
    if gpu_seconds := math.fsum(trial.occupied.gpu_seconds for trial in trials):
        found["gpu_hours"] = gpu_seconds / 3600
    return found


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
    constant = [one for one in test if one.metric == metric and one.is_near_constant]
    return {
        "xlt.languages": " ".join(sorted({one.language for one in test})),
        "xlt.near_constant": " ".join(sorted(one.language for one in constant)),
    }


def sweep_note(
    name: str,
    trials: Sequence[TrialView],
    objective: Mapping[str, Any],
    best: Winner | None,
    means: Metrics,
    supervision: str = "",
) -> str:
    """Markdown that stands on the sweep's run as its driver leaves it: how far it is, how it
    selects, what is best.

    Args:
        means: metrics of the best configuration, over its seeds.
        supervision: which labels it learned from.
    """
    states = [*standings(trials).values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STANDINGS if state in states)
    lines = [f"Sweep **{name}**: {len(trials)} trials" + (f" ({counts})" if counts else "") + "."]
    is_oracle = objective["languages"] != "source"
    trials_are = "**Oracle selection**: trials are" if is_oracle else "Trials are"
    lines += ["", f"{trials_are} {selection_rule(objective)}."]
    if mixed := mixed_facts(trials):
        lines += ["", f"**Mixed facts**: {mixed}."]
    if best is not None:
        if supervision not in ("", ZERO_SHOT):
            lines += ["", f"The best configuration is **{supervision}**."]
        lines += ["", *_best_lines(name, str(objective["metric"]), best, means)]
    return _tag("\n".join(lines))


def _best_lines(name: str, metric: str, best: Winner, means: Metrics) -> list[str]:
    seeds = f"mean over {best.num_seeds} seeds" if best.num_seeds > 1 else "one seed"
    rows = [
        (title, means[key], means.get(f"sd/{key}"))
        for title, key in (
            ("objective", "objective"),
            (f"test {metric}, all languages", f"test/{metric}/mean"),
            (f"test {metric}, without the source", f"test/{metric}/mean_without_source"),
        )
        if key in means
    ]
    lines = [f"Best: **configuration {best.configuration}**, {seeds}.", ""]
    lines += ["| score | value | sd |", "|---|---|---|"]
    lines += [
        f"| {title} | {value:.4f} | {'–' if spread is None else f'{spread:.4f}'} |"
        for title, value, spread in rows
    ]
    parameters = [f"| {path} | {spelled(value)} |" for path, value in best.trial.assignment.items()]
    if parameters:
        lines += ["", "| knob | value |", "|---|---|", *parameters]
    commands = [
        f"xlt report {name} --log",
        *(
            [
                f"xlt compare {name}/{best.runner_up} {name}/{best.configuration}",
                f"xlt confirm {name} --seeds 6",
            ]
            if best.runner_up is not None
            else []
        ),
        f"xlt export {name} DIR --trial {best.trial.number} --register MODEL",
    ]
    return [*lines, "", "```", *commands, "```"]


def _further_means(scores: Sequence[Score]) -> Metrics:
    """Means over what each further task, or the target's pairs, were scored in, by name.

    After few shots there are two languages that no mean may mix: each has its own name.
    """
    values: dict[str, list[float]] = {}
    for score in scores:
        if score.role != "target":
            of = score.language if score.role == "few_shot" else "mean"
            values.setdefault(f"test/{score.task}/{score.metric}/{of}", []).append(score.value)
    return {name: _mean(values[name]) for name in sorted(values)[:MAX_FURTHER]}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _tag(text: str) -> str:
    return str(redacted(text))[:MAX_VALUE]
