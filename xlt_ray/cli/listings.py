"""The rows that listings print, as a table and as JSON. Their keys are stable, and docs/results.md
describes them.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

from xlt_ray.config.diagnostics import DIAGNOSTICS
from xlt_ray.config.methods import ALIGNMENTS, FUSIONS, PEFT, ROBUST, SAMPLINGS, SCHEDULES
from xlt_ray.config.model_presets import PRESETS, Preset, estimate
from xlt_ray.errors import DamagedStage
from xlt_ray.ledger import (
    LEFT_NODES,
    STANDINGS,
    Ledger,
    StageUse,
    Standing,
    TrialView,
    failure_lines,
    front_of,
)
from xlt_ray.store.record import Score
from xlt_ray.store.store import StageStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xlt_ray.report.tables import Cell, LanguageTable
    from xlt_ray.sweep.forecast import Forecast
    from xlt_ray.sweep.plan import Divergence, Plan

Row = dict[str, Any]


def unreadable_row(name: str, problem: str) -> Row:
    """:func:`status_row` of a sweep whose ledger cannot be read."""
    unknown: Row = {"trials": {}, "failures": [], "gpu_hours": None, "best": None, "front": []}
    state: Row = {"is_running": False, "seconds_left": None, "left_nodes": [], "by_hand": []}
    return {"name": name, **unknown, **state, "origin": "", "problem": problem}


def status_row(ledger: Ledger) -> Row:
    """One sweep. ``waiting`` among the states is an older name of ``queued``."""
    views, best = ledger.trials(), ledger.best()
    states = [*ledger.standings().values()]
    counts: dict[str, int] = {state: states.count(state) for state in STANDINGS}
    return {
        "name": ledger.name,
        "trials": {**counts, "waiting": counts["queued"]},
        "failures": failure_lines(views, ledger.name),
        "gpu_hours": math.fsum(view.occupied.gpu_seconds for view in views) / 3600,
        "best": None
        if best is None
        else {
            "configuration": best.configuration,
            "objective": best.objective,
            "seeds": best.num_seeds,
            "trial": best.trial.number,
            "params": dict(best.trial.assignment),
        },
        "front": [
            {
                "configuration": point.configuration,
                "objectives": dict(point.objectives),
                "seeds": point.num_seeds,
            }
            for point in front_of(views, ledger.sweep)
        ],
        "is_running": bool(ledger.driver),
        "seconds_left": seconds_left(ledger),
        "left_nodes": ledger.study.user_attrs.get(LEFT_NODES, []),
        "by_hand": list(map(str, ledger.by_hand)),
        "origin": ledger.origin,
        "problem": None,
    }


def seconds_left(ledger: Ledger) -> float | None:
    """Until the sweep ends, as its living driver last said; None if that is unknown."""
    heartbeat = ledger.heartbeat
    if heartbeat is None or heartbeat.left_s is None:
        return None
    if not ledger.driver or heartbeat.driver != ledger.driver:
        return None
    return max(heartbeat.left_s - (time.time() - heartbeat.time), 0.0)


def trial_row(view: TrialView, store: StageStore, sweep: str, standing: Standing) -> Row:
    """One trial of a sweep; ``commit`` and ``versions`` are of the process that scored it."""
    scores: dict[str, dict[str, dict[str, dict[str, float]]]] = {"test": {}, "dev": {}}
    evidence: dict[str, dict[str, Row]] = {}
    record = None
    # The next run makes a damaged stage again.
    with contextlib.suppress(DamagedStage):
        record = store.record(view.evaluation_key) if view.evaluation_key else None
    for score in record.scores if record else ():
        by_language = scores[score.split].setdefault(score.task, {}).setdefault(score.language, {})
        by_language[score.metric] = score.value
        if score.split == "test":
            of_task = evidence.setdefault(score.task, {})
            of_task.setdefault(score.language, _evidence(score))["chance"][score.metric] = (
                score.chance
            )
    return {
        "number": view.number,
        "state": standing,
        **_fields(view, "configuration", "repeat", "seed", "rung"),
        "params": dict(view.assignment),
        "objective": view.objective,
        "further_objectives": list(view.further),
        "violated": list(view.violated),
        "scores": scores["test"],
        "dev_scores": scores["dev"],
        "evidence": evidence,
        "supervision": None if record is None else record.supervision,
        **_fields(view, "attempts", "cause", "message"),
        "stages": [
            {
                **_fields(stage, "kind", "key", "label", "reused", "examples"),
                "made_by": _made_by(stage, view, sweep),
            }
            for stage in view.stages
        ],
        **_fields(view, "mlflow_run_id", "retry_of", "facts", "by_hand"),
        "commit": record.made_by.get("commit", "") if record else "",
        "versions": record.made_by.get("versions", {}) if record else {},
    }


def score_rows(tables: Iterable[LanguageTable]) -> list[Row]:
    """Test scores of configurations, the best of a task first; ``interval`` is None of one seed."""
    return [
        {
            "task": table.task,
            "metric": table.metric,
            "source_language": table.source_language,
            "configuration": row.configuration,
            "params": dict(row.parameters),
            "seeds": row.num_seeds,
            "languages": {code: _cell_row(cell) for code, cell in row.cells.items()},
            "mean": _cell_row(row.mean),
            "mean_without_source": _cell_row(row.mean_without_source),
            "groups": {title: _cell_row(cell) for title, cell in row.groups.items()},
            "supervision": row.supervision,
        }
        for table in tables
        for row in table.rows
        if row.trials
    ]


def _cell_row(cell: Cell | None) -> Row | None:
    return None if cell is None else {"mean": cell.mean, "interval": cell.interval}


def plan_row(plan: Plan) -> Row:
    """What a sweep will train, parent stages first."""
    return {
        "name": plan.name,
        "trials": len(plan.trials),
        "unique_stages": len(plan.stages),
        **_fields(plan, "stages_naive", "examples_naive", "examples_shared", "examples_left"),
        **_fields(plan, "ratio", "is_estimate"),
        "stages": [
            {
                **_fields(stage.stage, "kind", "key", "label"),
                "parent": stage.parent.key if stage.parent else None,
                "model": stage.model.label,
                "trials": len(stage.trials),
                "examples": stage.stage.num_examples,
                "in_store": stage.is_in_store,
                **_cost_row(plan.forecast, stage.stage.key),
            }
            for stage in plan.stages
        ],
        "forecast": None if plan.forecast is None else _forecast_row(plan.forecast),
    }


def _cost_row(forecast: Forecast | None, key: str) -> Row:
    """Seconds and memory of a stage, where an unfinished trial needs it."""
    seconds = None if forecast is None else forecast.stage_s.get(key)
    memory = None if forecast is None else forecast.peak_memory.get(key)
    return {
        "seconds": None if seconds is None else seconds._asdict(),
        "memory_gib": None if memory is None else memory.process / 2**30,
        "gpu_memory_gib": None if memory is None else memory.gpu / 2**30,
    }


def _forecast_row(forecast: Forecast) -> Row:
    """What is left of a sweep; estimates have ``median``, ``low`` and ``high``."""
    estimates = (
        "finish_h", "device_h", "unshared_finish_h", "unshared_device_h", "critical_h", "money",
    )  # fmt: skip
    return {
        "place": forecast.cluster.place,
        "nodes": forecast.cluster.nodes,
        **_fields(forecast, "device", "concurrency"),
        **{
            name: None if (estimate := getattr(forecast, name)) is None else estimate._asdict()
            for name in estimates
        },
        "critical_path": list(forecast.critical_path),
        "best_concurrency": forecast.best_concurrency,
        "finish_by_concurrency": {
            str(number): hours for number, hours in forecast.finish_by_concurrency.items()
        },
        **_fields(forecast, "disk_bytes", "flops", "num_observations"),
        "memory_gib": forecast.peak.process / 2**30,
        "gpu_memory_gib": forecast.peak.gpu / 2**30,
        "warnings": list(forecast.warnings),
        "unknown": list(forecast.unknown),
    }


def divergence_row(first: int, second: int, divergence: Divergence | None) -> Row:
    """The first stage that two trials do not share, and in which fields it differs."""
    return {
        "trials": [first, second],
        "kind": divergence.kind if divergence else None,
        "differences": [
            {"field": field, "values": values}
            for field, *values in (divergence.differences if divergence else ())
        ],
    }


def task_rows() -> list[Row]:
    """Every task of the registry."""
    from xlt_ray.data.task import load_tasks

    return [
        {
            "task": task.name,
            "kind": task.kind,
            "source": task.source,
            "hub": list(dict.fromkeys(part.id for part in task.hub)),
            "labels": len(task.labels) or None,
            "metrics": list(task.metrics),
            "title": task.title,
            "licence": task.licence,
            "recipes": [recipe.model_dump() for recipe in task.recipes],
        }
        for task in load_tasks()
    ]


def model_rows() -> list[Row]:
    """What the ``model`` key takes; then the encoders of the table.

    ``gpus``, ``zero_stage`` and ``micro_batch`` are estimates for bf16 on GPUs of 80 GB and
    sequences of 256 pieces.
    """
    columns = ("model", "for", "example", "note")
    kinds = (
        (
            "toy:LAYERSxWIDTH",
            "data source toy",
            "toy:2x64",
            "for toy data: random weights; give it an align stage",
        ),
        (
            "folder",
            "any data source",
            "models/my-encoder",
            "config.json, model.safetensors, a fast tokenizer",
        ),
        (
            "Hugging Face id",
            "any data source",
            "xlm-roberta-base",
            "any encoder that AutoModel loads; its commit is pinned",
        ),
    )
    presets = [_preset_row(preset) for preset in PRESETS]
    empty = dict.fromkeys(presets[0])
    return [{**empty, **dict(zip(columns, kind, strict=True))} for kind in kinds] + presets


def _preset_row(preset: Preset) -> Row:
    needs = estimate(preset)
    return {
        "model": preset.name,
        "for": "any data source",
        "example": preset.names[-1],
        "note": None,
        "architecture": preset.architecture,
        "layers": preset.num_layers,
        "width": preset.hidden_size,
        "heads": preset.num_heads,
        "parameters": preset.num_parameters,
        "vocabulary": preset.vocabulary_size,
        "max_length": preset.max_positions,
        "languages": preset.languages,
        "gpus": needs.num_gpus,
        "zero_stage": needs.zero_stage,
        "micro_batch": needs.micro_batch,
    }


def method_rows() -> list[Row]:
    """Every method of the registries, with the keys that it takes."""
    registries = {
        "target.fusion": FUSIONS,
        "target.peft": PEFT,
        "target.robust": ROBUST,
        "align": ALIGNMENTS,
        "intermediate.sampling": SAMPLINGS,
        "intermediate.schedule": SCHEDULES,
    }
    return [
        {
            "key": key,
            "method": entry.name,
            "summary": entry.summary,
            "source": entry.source,
            "settings": [
                name for name in entry.settings.model_fields if name not in ("method", "objective")
            ],
        }
        for key, registry in registries.items()
        for entry in registry
    ] + [
        {
            "key": "evaluate.diagnostics",
            "method": diagnostic.name,
            "summary": diagnostic.summary,
            "source": diagnostic.source,
            "settings": ["diagnostic_sentences"],
        }
        for diagnostic in DIAGNOSTICS.values()
    ]


def _fields(value: object, *names: str) -> Row:
    return {name: getattr(value, name) for name in names}


def _evidence(score: Score) -> Row:
    return {
        "num_items": score.num_items or score.num_examples,
        **_fields(score, "top_share", "is_near_constant", "cut"),
        "chance": {},
    }


def _made_by(use: StageUse, view: TrialView, sweep: str) -> Row | None:
    if not use.made_by:
        return None if use.reused else {"sweep": sweep, "trial": view.number}
    maker, _, trial = use.made_by.partition("/")
    return {"sweep": maker, "trial": int(trial) if trial else None}
