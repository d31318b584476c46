"""The rows that listings print, as a table and as JSON: the keys here are stable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xlt_ray.config.diagnostics import DIAGNOSTICS
from xlt_ray.config.methods import ALIGNMENTS, FUSIONS, ROBUST, SAMPLINGS, SCHEDULES
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
)
from xlt_ray.store.record import Score
from xlt_ray.store.store import StageStore

if TYPE_CHECKING:
    from xlt_ray.sweep.plan import Divergence, Plan

Row = dict[str, Any]


def unreadable_row(name: str, problem: str) -> Row:
    """As :func:`status_row`, of a sweep whose ledger cannot be read."""
    return {
        "name": name,
        "trials": {},
        "failures": [],
        "gpu_hours": None,
        "best": None,
        "is_running": False,
        "left_nodes": [],
        "problem": problem,
    }


def status_row(ledger: Ledger) -> Row:
    """``name``, ``trials`` (state -> number), ``failures`` (a line for each cause), ``gpu_hours``
    (as ``budget.gpu_hours`` counts them), ``best``, ``is_running``, ``left_nodes`` (of
    the last run), ``problem`` (null).

    ``waiting`` among the states is an older name of ``queued``.
    """
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
        "is_running": bool(ledger.driver),
        "left_nodes": ledger.study.user_attrs.get(LEFT_NODES, []),
        "problem": None,
    }


def trial_row(view: TrialView, store: StageStore, sweep: str, standing: Standing) -> Row:
    """One trial of a sweep, its test scores as task -> language -> metric -> value.

    ``stages`` has for each stage ``kind``, ``key``, ``label``, ``reused``, ``examples`` (0 where
    it was reused) and ``made_by``: ``{"sweep", "trial"}``, the trial null where ``xlt stage``
    made it; null where nobody knows. ``evidence`` says of the test scores by task and language
    ``num_items``, ``top_share`` (of the most frequent prediction), ``is_near_constant``,
    ``cut`` (share of the examples that ``max_length`` took a part of) and ``chance`` (metric ->
    value). ``commit`` and ``versions`` are of the process that scored
    it; those of every stage are in the report's ``stages.csv``.
    """
    scores: dict[str, dict[str, dict[str, dict[str, float]]]] = {"test": {}, "dev": {}}
    beside: dict[str, dict[str, Row]] = {}
    try:
        record = store.record(view.evaluation_key) if view.evaluation_key else None
    except DamagedStage:
        # The listing of a thousand trials goes on; the next run makes the stage again.
        record = None
    for score in record.scores if record else ():
        by_language = scores[score.split].setdefault(score.task, {}).setdefault(score.language, {})
        by_language[score.metric] = score.value
        if score.split == "test":
            told = beside.setdefault(score.task, {}).setdefault(score.language, _evidence(score))
            told["chance"][score.metric] = score.chance
    return {
        "number": view.number,
        "state": standing,
        "configuration": view.configuration,
        "repeat": view.repeat,
        "seed": view.seed,
        "params": dict(view.assignment),
        "objective": view.objective,
        "scores": scores["test"],
        "dev_scores": scores["dev"],
        "evidence": beside,
        "supervision": None if record is None else record.supervision,
        "attempts": view.attempts,
        "cause": view.cause,
        "message": view.message,
        "stages": [
            {
                "kind": stage.kind,
                "key": stage.key,
                "label": stage.label,
                "reused": stage.reused,
                "examples": stage.examples,
                "made_by": _made_by(stage, view, sweep),
            }
            for stage in view.stages
        ],
        "mlflow_run_id": view.mlflow_run_id,
        "retry_of": view.retry_of,
        "facts": view.facts,
        "commit": record.made_by.get("commit", "") if record else "",
        "versions": record.made_by.get("versions", {}) if record else {},
    }


def plan_row(plan: Plan) -> Row:
    """What a sweep is going to train.

    ``name``, ``trials``, ``unique_stages``, ``stages_naive``, ``examples_naive`` (every trial
    trains its whole path alone), ``examples_shared`` (every stage is trained once),
    ``examples_left`` (of the stages that have still to be made), ``ratio`` (naive / shared),
    ``is_estimate`` (the sampler chooses some trials by scores that are not there yet), and
    ``stages``, parents first: each ``kind``, ``key``, ``label``, ``parent`` (a key; null below
    the given model), ``model`` (name of that model), ``trials`` (how many share it),
    ``examples`` (to train it once), ``in_store``.
    """
    return {
        "name": plan.name,
        "trials": len(plan.trials),
        "unique_stages": len(plan.stages),
        "stages_naive": plan.stages_naive,
        "examples_naive": plan.examples_naive,
        "examples_shared": plan.examples_shared,
        "examples_left": plan.examples_left,
        "ratio": plan.ratio,
        "is_estimate": plan.is_estimate,
        "stages": [
            {
                "kind": stage.stage.kind,
                "key": stage.stage.key,
                "label": stage.stage.label,
                "parent": stage.parent.key if stage.parent else None,
                "model": stage.model.label,
                "trials": len(stage.trials),
                "examples": stage.stage.num_examples,
                "in_store": stage.is_in_store,
            }
            for stage in plan.stages
        ],
    }


def divergence_row(first: int, second: int, divergence: Divergence | None) -> Row:
    """``trials``, ``kind`` of the first stage that two trials do not share, or null, and
    ``differences``: each ``field`` and its ``values`` in the first and the second trial."""
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
    """What the ``model`` key takes; then the encoders of the table, with what they need.

    ``gpus``, ``zero_stage`` and ``micro_batch`` are estimates for bf16 on GPUs of 80 GB and
    sequences of 256 pieces.
    """
    kinds: list[Row] = [
        {
            "model": "toy:LAYERSxWIDTH",
            "for": "data source toy",
            "example": "toy:2x64",
            "note": "for toy data: random weights; give it an align stage",
        },
        {
            "model": "folder",
            "for": "any data source",
            "example": "models/my-encoder",
            "note": "config.json, model.safetensors, a fast tokenizer",
        },
        {
            "model": "Hugging Face id",
            "for": "any data source",
            "example": "xlm-roberta-base",
            "note": "any encoder that AutoModel loads; its commit is pinned",
        },
    ]
    facts = ("architecture", "layers", "width", "heads", "parameters", "vocabulary")
    needs = ("max_length", "languages", "gpus", "zero_stage", "micro_batch")
    return [{**row, **dict.fromkeys((*facts, *needs))} for row in kinds] + [
        _preset_row(preset) for preset in PRESETS
    ]


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


def _evidence(score: Score) -> Row:
    return {
        "num_items": score.num_items or score.num_examples,
        "top_share": score.top_share,
        "is_near_constant": score.is_near_constant,
        "cut": score.cut,
        "chance": {},
    }


def _made_by(use: StageUse, view: TrialView, sweep: str) -> Row | None:
    if not use.made_by:
        return None if use.reused else {"sweep": sweep, "trial": view.number}
    maker, _, trial = use.made_by.partition("/")
    return {"sweep": maker, "trial": int(trial) if trial else None}
