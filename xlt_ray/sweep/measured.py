"""Measures of a finished trial, from its scores and the records of its stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from xlt_ray.config.measures import Outcome, measure_named
from xlt_ray.config.sweep import SweepSpec
from xlt_ray.errors import TrialFailure
from xlt_ray.ledger import TrialView
from xlt_ray.store.record import Role, Score, values_by_language
from xlt_ray.store.stage_path import stages_to_run
from xlt_ray.store.store import StageStore
from xlt_ray.sweep.tasks import TrialTask


def measured(
    sweep: SweepSpec,
    task: TrialTask,
    scores: Sequence[Score],
    gpus: float,
    store: StageStore,
    trials: Iterable[TrialView],
) -> Mapping[str, float]:
    """The values of :attr:`~xlt_ray.config.sweep.SweepSpec.measures`, by name.

    A configuration costs what all stages of its path cost, whichever trials made them: which trial
    of a sweep trains a shared stage says nothing about the configuration.

    Args:
        gpus: that the trial occupies.
        trials: of the sweep, which know the cost of stages that were freed from the store.

    Raises:
        TrialFailure: a dev score is missing, or the cost of a stage is not known any more.
    """
    source, objective = task.trial.target.source_language, sweep.settings.objective
    measures = [measure_named(name, source) for name in sweep.measures]
    role: Role = "few_shot" if any(score.role == "few_shot" for score in scores) else "target"
    values = values_by_language(scores, objective.split, objective.metric, role)
    wanted = set()
    for measure in measures:
        if measure.reads in ("target", "low"):
            wanted |= set(task.path[-1].settings["languages"]["dev"])
        elif measure.reads == "source":
            wanted.add(source)
    if missing := sorted(wanted - values.keys()):
        raise TrialFailure(
            f"{objective.metric} has no dev score in {', '.join(missing)}",
            cause="data",
            advice="its gold labels leave it undefined (no entity, or all scores equal): another"
            " objective.metric, or other evaluate.languages",
        )
    reads = {measure.reads for measure in measures}
    outcome = Outcome(
        scores=values,
        source=source,
        is_higher_better=objective.mode == "max",
        seconds=_seconds(task, store, trials) if reads & {"time", "gpus"} else 0.0,
        gpus=gpus,
        weight_bytes=_weight_bytes(task, store) if "weights" in reads else 0,
    )
    return {
        name: measure.value(outcome) for name, measure in zip(sweep.measures, measures, strict=True)
    }


def _seconds(task: TrialTask, store: StageStore, trials: Iterable[TrialView]) -> float:
    known = {use.key: use.seconds for trial in trials for use in trial.stages if use.seconds}
    total = 0.0
    for stage in stages_to_run(task.path):
        record = store.record(stage.key)
        if record is None and stage.key not in known:
            raise _unknown("time", stage.label)
        total += known[stage.key] if record is None else record.seconds
    return total


def _weight_bytes(task: TrialTask, store: StageStore) -> int:
    stage = [stage for stage in stages_to_run(task.path) if stage.kind != "evaluate"][-1]
    record = store.record(stage.key)
    if record is None:
        raise _unknown("size", stage.label)
    return sum(
        entry.num_bytes for name, entry in record.files.items() if name.endswith(".safetensors")
    )


def _unknown(what: str, label: str) -> TrialFailure:
    return TrialFailure(
        f"the {what} of {label} is unknown: it was freed from the store, and another sweep made it",
        cause="data",
        advice="a larger store.quota, or leave the objective or constraint out",
    )
