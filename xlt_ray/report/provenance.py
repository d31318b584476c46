"""Where a trial's network comes from: all that ``xlt.json`` says, from ledger and store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xlt_ray.config.export_metadata import Exported, ExportedScore, ExportedStage
from xlt_ray.config.supervision import INTERMEDIATE, TRANSLATE_TRAIN
from xlt_ray.config.sweep import modes_of, selection_rule
from xlt_ray.errors import DamagedStage, LedgerError
from xlt_ray.ledger import StageUse, TrialView
from xlt_ray.ledger.views import winner
from xlt_ray.report.frames import Snapshot
from xlt_ray.report.selection import COMPETED, is_oracle
from xlt_ray.report.tables import is_translate_train
from xlt_ray.store.stage import short
from xlt_ray.versions import version_of

VERSIONS = ("xlt-ray", "torch", "transformers", "safetensors", "tokenizers")
"""Libraries whose versions an export tells."""

LOCAL_MLFLOW = "http://127.0.0.1:5000"
"""Where ``xlt ui`` serves the runs of a home by default."""


def exportable(snapshot: Snapshot, view: TrialView | None) -> TrialView:
    """``view``, the best trial or one that was named, if it can be exported.

    Raises:
        LedgerError: no trial is given, or its target stage is not in the store; the message says
            what to do.
    """
    if view is None:
        raise LedgerError(
            f"{snapshot.name}: no trial is complete yet; continue it with `xlt resume "
            f"{snapshot.name}`, or name a trial with --trial"
        )
    target = target_use(view)
    where = f"{snapshot.name}: trial {view.number}"
    if target is None:
        with_target = [
            str(trial.number) for trial in snapshot.trials if target_use(trial) is not None
        ]
        raise LedgerError(
            f"{where} is {snapshot.standings[view.number]} and has no target stage; "
            "those that have: " + (", ".join(with_target) or "none")
        )
    if target.key not in snapshot.records:
        raise LedgerError(
            f"{where}: its target stage {short(target.key)} was freed from the store, or its "
            f"record is damaged; {made_again(snapshot, view, target)}"
        )
    return view


def made_again(snapshot: Snapshot, view: TrialView, use: StageUse, lost: str = "") -> str:
    """What to do where the stage ``use`` of a trial is gone or damaged, or ``lost`` below it."""
    if snapshot.origin:
        return "its capsule has no weights of it; ask for one of `xlt pack NAME --weights best`"
    if view == best_trial(snapshot) and lost in ("", use.key):
        return f"make it again: xlt resume {snapshot.name} --verify"
    return f"make it again: xlt stage {snapshot.name} --trial {view.number} --until {use.kind}"


def best_trial(snapshot: Snapshot) -> TrialView | None:
    """The best trial of the best configuration, whose weights a sweep keeps."""
    sweep = snapshot.sweep
    best = winner(snapshot.trials, sweep["search"]["seeds"], *modes_of(sweep["objective"]))
    return None if best is None else best.trial


def lost_weights(snapshot: Snapshot) -> str:
    """Which weights of the best trial are gone or damaged (by the sizes of their files), and
    what to do; empty where they are there."""
    view = best_trial(snapshot)
    target = None if view is None else target_use(view)
    if view is None or target is None or snapshot.store is None:
        return ""
    with contextlib.suppress(DamagedStage):
        if snapshot.store.verify(target.key, by_size=True) is not None:
            return ""
    return (
        f"the weights of trial {view.number}, the best one, are gone or damaged ({target.kind} "
        f"stage {short(target.key)}); {made_again(snapshot, view, target)}"
    )


def target_use(view: TrialView) -> StageUse | None:
    """The stage that left a trial's network, if it got so far: target, or few-shot after it."""
    by_kind = {stage.kind: stage for stage in view.stages}
    return by_kind.get("few_shot", by_kind.get("target"))


def model_of(sweep: Mapping[str, Any], assignment: Mapping[str, Any]) -> tuple[str, bool]:
    """Name of the model that a trial starts from, and whether its code may run.

    A model in a folder is called by the folder's name alone.

    >>> model_of({"space": {"model": {"choice": ["a/b", "toy:2x64"]}}}, {"model": "toy:2x64"})
    ('toy:2x64', False)
    """
    block = _model_block(sweep, assignment)
    name = str(block.get("name", ""))
    folder = Path(name).expanduser()
    is_folder = folder.is_absolute() or folder.is_dir()
    return folder.name if is_folder else name, bool(block.get("trust_remote_code"))


def weights_of(snapshot: Snapshot, view: TrialView) -> str:
    """Commit on the hub, or digest of the folder, of the model that a trial starts from; empty
    where its ledger has not kept it."""
    facts = snapshot.fact_sets.get(view.facts, {})
    block = _model_block(snapshot.sweep, view.assignment)
    name, revision = block.get("name", ""), block.get("revision")
    return facts.get(f"model {name}@{revision}") or facts.get(f"model {name}", "")


def mlflow_server(sweep: Mapping[str, Any]) -> str:
    """Address of the MLflow server that the sweep writes to, without a password; empty for the
    database of a home."""
    parts = urlsplit(sweep["places"]["tracking"] or "")
    if parts.scheme not in ("http", "https"):
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def _model_block(sweep: Mapping[str, Any], assignment: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model of a trial as a block, however it was given."""
    block = assignment.get("model", sweep["space"]["model"])
    if isinstance(block, str) and block.startswith("{"):
        block = json.loads(block)
    if not isinstance(block, Mapping):
        return {"name": str(block)}
    searched = {path.partition(".")[2]: value for path, value in assignment.items()
           if path.startswith("model.")}  # fmt: skip
    return {**block, **searched}


def export_metadata(
    snapshot: Snapshot,
    view: TrialView,
    *,
    is_named: bool,
    describe_task: Callable[[str], Mapping[str, Any]],
) -> Exported:
    """All that is known of a trial whose target stage is in the store.

    Args:
        is_named: whether the user named this trial.
        describe_task: the task file of a name.

    Raises:
        LedgerError: the task has changed its meaning since the trial was trained.
    """
    use = target_use(view)
    assert use is not None, "an exportable trial has a target stage"
    settings: Any = snapshot.records[use.key].payload["settings"]
    stages = tuple(_stage(snapshot, stage) for stage in view.stages)
    names = [stage.settings["task"]["name"] for stage in stages if "task" in stage.settings]
    for stage in stages:
        names += [*stage.settings.get("tasks", ()), *stage.settings.get("also", ())]
    tasks = {str(name): describe_task(str(name)) for name in dict.fromkeys(names)}
    name, trained = str(settings["task"]["name"]), settings["task"]["version"]
    task = tasks[name]
    if task["version"] != trained:
        raise LedgerError(
            f"{snapshot.name}: trial {view.number} was trained for version {trained} of the task "
            f"{name}, this xlt-ray has version {task['version']}; export it with the one that "
            "trained it"
        )
    source = str(settings["source_language"])
    return Exported(
        sweep=snapshot.name,
        trial=view.number,
        configuration=view.configuration,
        seed=view.seed,
        params=dict(view.assignment),
        objective=view.objective,
        supervision=snapshot.supervision(view),
        selection=_selection(snapshot, view, source, is_named=is_named),
        model=model_of(snapshot.sweep, view.assignment)[0],
        weights=weights_of(snapshot, view),
        task=name,
        kind=task["kind"],
        labels=tuple(task["labels"]),
        source_language=source,
        fusion=settings["fusion"],
        max_length=settings["max_length"],
        tasks=tasks,
        stages=stages,
        languages=_languages(snapshot, name, source),
        scores=tuple(
            ExportedScore(**{name: getattr(score, name) for name in ExportedScore.model_fields})
            for stage in view.stages
            if stage.key in snapshot.records
            for score in snapshot.records[stage.key].scores
        ),
        versions={version: number for version in VERSIONS if (number := version_of(version))},
    )


def _stage(snapshot: Snapshot, use: StageUse) -> ExportedStage:
    record = snapshot.records.get(use.key)
    if record is None:
        return ExportedStage(kind=use.kind, key=use.key, label=use.label, is_freed=True)
    payload: Any = record.payload
    return ExportedStage(
        kind=use.kind,
        key=use.key,
        label=use.label,
        seed=payload["seed"],
        settings=payload["settings"],
        data=payload["data"],
        selected_step=record.selected_step,
        runtime=record.runtime,
        time=str(record.made_by.get("time", "")),
        commit=str(record.made_by.get("commit", "")),
        versions=record.made_by.get("versions", {}),
    )


def _languages(snapshot: Snapshot, task: str, source: str) -> tuple[str, ...]:
    """Languages that any trial of this task and source language has test scores in."""
    records = (snapshot.record(view, "evaluate") for view in snapshot.trials)
    payloads: Any = [(record.payload, record.scores) for record in records if record is not None]
    languages = {
        score.language
        for payload, scores in payloads
        if payload["settings"].get("source_language") == source
        for score in scores
        if (score.task, score.split) == (task, "test")
    }
    return (source, *sorted(languages - {source}))


def _selection(snapshot: Snapshot, view: TrialView, source: str, *, is_named: bool) -> str:
    complete = [trial for trial in snapshot.trials if trial.state == "complete"]
    candidates = {trial.configuration for trial in snapshot.trials if trial.state in COMPETED}
    rule = selection_rule(snapshot.sweep, source)
    if is_named:
        text = f"Trial {view.number} was named by hand; the sweep's own rule: {rule}."
    else:
        seeds = [trial for trial in complete if trial.configuration == view.configuration]
        text = (
            f"Configuration {view.configuration} is the best of {len(candidates)}, {rule}; "
            f"trial {view.number} is the best of its {len(seeds)} complete "
            f"{'seeds' if len(seeds) > 1 else 'seed'}: {view.objective:.4f}."
        )
        if len(complete) > 1:
            text += (
                " A score that was chosen for being the best is too good on average: "
                f"`xlt confirm {snapshot.name}` measures by how much."
            )
    shots = next((stage for stage in view.stages if stage.kind == "few_shot"), None)
    if shots is not None:
        text += f" FEW-SHOT ({shots.label}): labels of a target language were trained on."
    supervision = snapshot.supervision(view)
    if is_translate_train(supervision):
        marked = supervision.replace(TRANSLATE_TRAIN, TRANSLATE_TRAIN.upper())
        text += f" {marked}: labels were learned on text in scored languages, it is not zero-shot."
    elif INTERMEDIATE in supervision:
        text += f" {supervision.capitalize()}: an intermediate task had labels in these languages."
    if is_oracle(snapshot.sweep):
        text += " ORACLE SELECTION: labels of target languages were read, it is not zero-shot."
    return text
